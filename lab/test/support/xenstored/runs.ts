/**
 * Generates random runs of commands: single commands in any order, and scenes of commands that
 * belong together.
 */
import { XS } from '@xenkit/wire'
import * as fc from 'fast-check'
import {
  Ask,
  BuildDomain,
  Burst,
  type Command,
  CompareUsage,
  DestroyDomain,
  Scene,
} from './commands.ts'
import { type ClientName, CLIENTS, type Guest, GUESTS } from './pair.ts'
import {
  closeNodeRequest,
  closePermissions,
  domainRequest,
  nodeRequest,
  quotaRequest,
  type Request,
  watchRequest,
} from './requests.ts'

const times = <T>(count: number, one: T): T[] => Array<T>(count).fill(one)
/** Clients of requests. Guests appear more often, because quotas apply to them. */
const client = fc.constantFrom<ClientName>(...CLIENTS, '5', '6')
const guest = fc.constantFrom(...GUESTS)
const dom0 = fc.constant<ClientName>('0')

const start: Request = { type: XS.TRANSACTION_START, payload: '|' }
const commit: Request = { type: XS.TRANSACTION_END, payload: 'T|' }
const abort: Request = { type: XS.TRANSACTION_END, payload: 'F|' }

const direct = (
  request: fc.Arbitrary<Request>,
  whose: fc.Arbitrary<ClientName> = client,
): fc.Arbitrary<Ask> => fc.tuple(whose, request).map(([name, asked]) => new Ask(name, asked))
const within = (request: fc.Arbitrary<Request>): fc.Arbitrary<Ask> =>
  fc
    .tuple(client, request, fc.constantFrom(...times(8, 0), ...times(4, 1), 2, -1))
    .map(([name, asked, which]) => new Ask(name, asked, which))

const destroyed = (domid: Guest): Command[] => [new DestroyDomain(domid), new BuildDomain(domid)]
const released = (domid: Guest): Command[] => [
  new Ask('0', { type: XS.RELEASE, payload: `${domid}|` }),
  new BuildDomain(domid),
]
const followed = fc.constantFrom(destroyed, released)

/** A transaction from start to commit, with other requests in between. */
const transaction = client.chain((name) => {
  const step = fc.oneof(
    {
      weight: 8,
      arbitrary: closeNodeRequest.map((request): Command[] => [new Ask(name, request, 'latest')]),
    },
    { weight: 3, arbitrary: direct(closeNodeRequest).map((ask): Command[] => [ask]) },
    { weight: 1, arbitrary: direct(watchRequest).map((ask): Command[] => [ask]) },
    { weight: 1, arbitrary: fc.tuple(guest, followed).map(([domid, by]) => by(domid)) },
  )
  return fc
    .array(step, { minLength: 2, maxLength: 12 })
    .map(
      (steps) =>
        new Scene([new Ask(name, start), ...steps.flat(), new Ask(name, commit, 'latest')]),
    )
})

/**
 * Permissions name a domain, which is then destroyed and another created with the same domid. The
 * permissions must not apply to the new domain.
 */
const inheritance = guest.chain((domid) =>
  fc
    .tuple(
      closePermissions(domid),
      fc.option(direct(closeNodeRequest)),
      followed,
      fc.array(fc.oneof(closeNodeRequest, watchRequest), { minLength: 1, maxLength: 4 }),
      guest,
    )
    .map(
      ([permissions, meanwhile, by, later, other]) =>
        new Scene([
          new Ask('0', permissions),
          ...(meanwhile ? [meanwhile] : []),
          ...by(domid),
          ...later.map((request) => new Ask(`${domid}`, request)),
          ...by(other),
        ]),
    ),
)

const burst = fc
  .tuple(
    client,
    fc.array(fc.oneof(nodeRequest, nodeRequest, watchRequest), { minLength: 2, maxLength: 12 }),
  )
  .map(([name, asked]) => new Burst(name, asked))

export const run = fc.commands(
  [
    ...times(20, direct(nodeRequest)),
    ...times(24, within(nodeRequest)),
    ...times(6, direct(watchRequest)),
    ...times(5, direct(fc.constant(start))),
    ...times(7, within(fc.constantFrom(...times(4, commit), abort))),
    ...times(
      3,
      guest.map((domid) => new BuildDomain(domid)),
    ),
    ...times(3, transaction),
    ...times(2, inheritance),
    guest.map((domid) => new DestroyDomain(domid)),
    guest.map((domid) => new CompareUsage(domid)),
    direct(domainRequest),
    direct(domainRequest, dom0),
    within(domainRequest),
    direct(quotaRequest, dom0),
    burst,
  ],
  { maxCommands: 400, size: 'max' },
)
