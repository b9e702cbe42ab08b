/** Any sequence of requests gets the same answers and events from our xenstored as from Debian's. */
import { XS } from '@xenkit/wire'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { whyNoXenstored } from '../src/xenstored/program.ts'
import { Ask, BuildDomain, Burst, CompareUsage, DestroyDomain, Model } from './xenstored/commands.ts'
import { type ClientName, CLIENTS, GUESTS, Pair } from './xenstored/pair.ts'
import { domainRequest, initialQuotas, nodeRequest, quotaRequest, type Request, watchRequest } from './xenstored/requests.ts'

const why = await whyNoXenstored()
if (why !== undefined) console.log(`skipped: ${why}`)

const times = <T>(count: number, one: T): T[] => Array<T>(count).fill(one)
const client = fc.constantFrom(...CLIENTS, '5' as const, '6' as const)
const domid = fc.constantFrom(...GUESTS)
const start: Request = { type: XS.TRANSACTION_START, payload: '|' }
const ends: Request[] = ['T|', 'T|', 'T|', 'T|', 'F|'].map((payload) => ({ type: XS.TRANSACTION_END, payload }))

const direct = (request: fc.Arbitrary<Request>, whose: fc.Arbitrary<ClientName> = client): fc.Arbitrary<Ask> => fc.tuple(whose, request).map(([name, asked]) => new Ask(name, asked))
const within = (request: fc.Arbitrary<Request>): fc.Arbitrary<Ask> => fc.tuple(client, request, fc.constantFrom(...times(8, 0), ...times(4, 1), 2, -1)).map(([name, asked, which]) => new Ask(name, asked, which))
const dom0 = fc.constant<ClientName>('0')

const commands = fc.commands(
  [
    ...times(20, direct(nodeRequest)),
    ...times(24, within(nodeRequest)),
    ...times(6, direct(watchRequest)),
    ...times(5, direct(fc.constant(start))),
    ...times(7, within(fc.constantFrom(...ends))),
    ...times(3, domid.map((id) => new BuildDomain(id))),
    domid.map((id) => new DestroyDomain(id)),
    domid.map((id) => new CompareUsage(id)),
    fc.tuple(client, fc.array(fc.oneof(nodeRequest, nodeRequest, watchRequest), { minLength: 2, maxLength: 12 })).map(([name, asked]) => new Burst(name, asked)),
    direct(domainRequest),
    direct(domainRequest, dom0),
    within(domainRequest),
    direct(quotaRequest, dom0),
  ],
  { maxCommands: 400, size: 'max' },
)

/** Homes that guests own, a place where everybody may write. */
async function furnish(model: Model, quotas: readonly Request[]): Promise<void> {
  for (const id of [5, 6] as const) await new BuildDomain(id).run(model, model.pair)
  await model.pair.ask('0', XS.MKDIR, '/a|')
  await model.pair.ask('0', XS.SET_PERMS, '/a|b0|')
  for (const { type, payload } of quotas) await model.pair.ask('0', type, payload)
}

const seed = Number(process.env['XENSTORED_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
console.log(`XENSTORED_SEED=${seed}`)

describe.skipIf(why !== undefined)('our xenstored against the real one', () => {
  test('same answers, same events', async () => {
    let requests = 0
    const property = fc.asyncProperty(initialQuotas, commands, async (quotas, sequence) => {
      await using pair = await Pair.start()
      const model = new Model(pair)
      await furnish(model, quotas)
      await fc.asyncModelRun(() => ({ model, real: pair }), sequence)
      await pair.compareStores()
      requests += model.requests
    })
    await fc.assert(property, { seed, numRuns: Number(process.env['RUNS'] ?? 400) })
    console.log(`${requests} requests`)
    expect(requests).toBeGreaterThan(20_000)
  }, 300_000)
})
