/**
 * What clients ask for: one entry per message type (docs/misc/xenstore.txt). A type that isn't here
 * answers ENOSYS.
 */
import type { Connection } from './connection.ts'
import { connectionRequests } from './connection-requests.ts'
import { controlRequests } from './control.ts'
import { domainRequests } from './domain-requests.ts'
import type { Xenstored } from './index.ts'
import { limitRequests } from './limit-requests.ts'
import { nodeRequests } from './node-requests.ts'
import type { Transaction } from './transaction.ts'
import type { Requester } from './tree-operations.ts'

export interface Request extends Requester {
  readonly connection: Connection
  readonly xenstored: Xenstored
  readonly txId: number
  readonly transaction: Transaction | undefined
  readonly payload: Uint8Array
  /** @param payload text in ASCII, or bytes */
  reply(payload: string | Uint8Array): void
}

export interface Handler {
  /** Only domain 0 may ask. */
  readonly privileged?: true
  /** Takes no part in a transaction: `tx_id` is ignored. */
  readonly global?: true
  run(request: Request): void
}

/** By type. */
export type Handlers = readonly (readonly [number, Handler])[]

export const handlers: ReadonlyMap<number, Handler> = new Map([
  ...nodeRequests,
  ...connectionRequests,
  ...domainRequests,
  ...limitRequests,
  ...controlRequests,
])
