/** Any sequence of requests gets the same answers and events from our xenstored as from Debian's. */
import { XS } from '@xenkit/wire'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { whyNoXenstored } from '../src/xenstored/program.ts'
import { Ask, Begin, CreateDomain, DestroyDomain, End, newModel } from './xenstored/commands.ts'
import { CLIENTS, GUESTS, Pair } from './xenstored/pair.ts'
import { request } from './xenstored/requests.ts'

const why = await whyNoXenstored()
if (why !== undefined) console.log(`skipped: ${why}`)

const client = fc.constantFrom(...CLIENTS)
const guest = fc.constantFrom(...GUESTS)
const which = fc.nat(2)
const direct = fc.tuple(client, request).map(([name, asked]) => new Ask(name, asked, undefined))
const within = fc.tuple(client, request, fc.constantFrom(0, 0, 0, 0, 1, 1, 1, 2, -1)).map(([name, asked, at]) => new Ask(name, asked, at))
const end = fc.tuple(client, which, fc.constantFrom('T|', 'T|', 'T|', 'T|', 'F|', 'X|')).map(([name, at, verdict]) => new End(name, at, verdict))
const begin = client.map((name) => new Begin(name))
const commands = fc.commands(
  [...Array<typeof direct>(8).fill(direct), ...Array<typeof within>(8).fill(within), end, end, end, begin, begin, guest.map((domid) => new CreateDomain(domid)), guest.map((domid) => new DestroyDomain(domid))],
  { maxCommands: 300, size: 'max' },
)

/** Homes that two guests own, a place where everybody may write. */
async function furnish(pair: Pair): Promise<void> {
  for (const domid of [5, 6]) {
    await pair.ask('0', XS.INTRODUCE, `${domid}|0|1|`)
    await pair.ask('0', XS.MKDIR, `/local/domain/${domid}|`)
    await pair.ask('0', XS.SET_PERMS, `/local/domain/${domid}|n${domid}|`)
  }
  await pair.ask('0', XS.MKDIR, '/a|')
  await pair.ask('0', XS.SET_PERMS, '/a|b0|')
  await pair.followIntroductions()
}

const seed = Number(process.env['XENSTORED_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
console.log(`XENSTORED_SEED=${seed}`)

describe.skipIf(why !== undefined)('our xenstored against the real one', () => {
  test('same answers, same events', async () => {
    let asked = 0
    const property = fc.asyncProperty(commands, async (sequence) => {
      await using pair = await Pair.start()
      await furnish(pair)
      await fc.asyncModelRun(() => ({ model: newModel(pair), real: pair }), sequence)
      await pair.compareStores()
      asked += pair.asked
    })
    await fc.assert(property, { seed, numRuns: Number(process.env['RUNS'] ?? 100) })
    console.log(`${asked} requests`)
    expect(asked).toBeGreaterThan(20_000)
  }, 300_000)
})
