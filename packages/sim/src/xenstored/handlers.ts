/**
 * The handlers of all requests, by message type (docs/misc/xenstore.txt). Any other type is ENOSYS.
 */
import { connectionRequests } from './connection-requests.ts'
import { controlRequests } from './control.ts'
import { domainRequests } from './domain-requests.ts'
import { limitRequests } from './limit-requests.ts'
import { nodeRequests } from './node-requests.ts'
import type { Handler } from './request.ts'

export const handlers: ReadonlyMap<number, Handler> = new Map([
  ...nodeRequests,
  ...connectionRequests,
  ...domainRequests,
  ...limitRequests,
  ...controlRequests,
])
