/**
 * The embedded xenstored and Debian's must give the same answers and events for any sequence of
 * requests.
 */
import { XS } from '@xenkit/wire'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { whyNoXenstored } from '../../src/xenstored/program.ts'
import { BuildDomain, Model } from '../support/xenstored/commands.ts'
import { Pair } from '../support/xenstored/pair.ts'
import { rare } from '../support/xenstored/rare.ts'
import { initialQuotas, type Request } from '../support/xenstored/requests.ts'
import { run } from '../support/xenstored/runs.ts'

const why = await whyNoXenstored()
if (why !== undefined) console.log(`skipped: ${why}`)

const REQUESTS = 24_000
/** Number of runs between two checks of the number of requests. A run has some hundred requests. */
const RUNS = 10

/** Seed of all runs; each group of ten runs uses the next one. */
const seed = Number(process.env['XENSTORED_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
console.log(`XENSTORED_SEED=${seed}`)

/** Creates guests that own their homes, a node where everybody may write, and initial quotas. */
async function furnish(model: Model, quotas: readonly Request[]): Promise<void> {
  const { pair } = model
  for (const domid of [5, 6] as const) await new BuildDomain(domid).run(model, pair)
  await pair.ask('0', XS.MKDIR, '/a|')
  await pair.ask('0', XS.SET_PERMS, '/a|b0|')
  for (const { type, payload } of quotas) await pair.ask('0', type, payload)
}

describe.skipIf(why !== undefined)('our xenstored against the real one', () => {
  test('same answers, same events', async () => {
    const done = { requests: 0 }
    const property = fc.asyncProperty(initialQuotas, run, async (quotas, commands) => {
      await using pair = await Pair.start()
      const model = new Model(pair)
      await furnish(model, quotas)
      await fc.asyncModelRun(() => ({ model, real: pair }), commands)
      await pair.settle()
      await pair.compareStores()
      done.requests += model.requests
    })
    let next = seed
    do await fc.assert(property, { seed: next++, numRuns: RUNS })
    while (done.requests < REQUESTS)
    console.log(`${done.requests} requests`)
    expect(done.requests).toBeGreaterThanOrEqual(REQUESTS)
  }, 900_000)

  test.each(Object.entries(rare))('%s', async (_, commands) => {
    await using pair = await Pair.start()
    const model = new Model(pair)
    await furnish(model, [])
    for (const command of commands) {
      expect(command.check(model)).toBe(true)
      await command.run(model, pair)
    }
    await pair.settle()
    await pair.compareStores()
  })

  describe('default limits of a guest', () => {
    const many = (count: number, ask: (i: number) => Promise<string>): Promise<string[]> =>
      Promise.all(Array.from({ length: count }, (_, i) => ask(i)))

    async function furnished(): Promise<Pair> {
      const pair = await Pair.start()
      await furnish(new Model(pair), [])
      return pair
    }

    test('nodes', async () => {
      await using pair = await furnished()
      const answers = await many(1020, (i) => pair.ask('5', XS.MKDIR, `d${i % 20}/${i}|`))
      // Of the quota of 1000 nodes, the guest's home and its 20 directories use 21.
      expect(answers.filter((answer) => answer === 'OK|').length).toBe(979)
      await pair.ask('5', XS.RM, 'd0|')
      await many(60, (i) => pair.ask('5', XS.WRITE, `e${i}|`))
      await pair.compareStores()
    })

    test('nodes in a transaction', async () => {
      await using pair = await furnished()
      await many(940, (i) => pair.ask('5', XS.MKDIR, `d${i % 20}/${i}|`))
      const [some, more] = [
        Number.parseInt(await pair.ask('5', XS.TRANSACTION_START, '|'), 10),
        Number.parseInt(await pair.ask('5', XS.TRANSACTION_START, '|'), 10),
      ]
      await many(39, (i) => pair.ask('5', XS.MKDIR, `d0/t${i}|`, more))
      await many(38, (i) => pair.ask('5', XS.MKDIR, `d0/t${i}|`, some))
      expect(await pair.ask('5', XS.TRANSACTION_END, 'T|', more)).toBe('!ENOSPC|')
      expect(await pair.ask('5', XS.TRANSACTION_END, 'T|', some)).toBe('OK|')
      await pair.compareStores()
    })

    test('watches and transactions', async () => {
      await using pair = await furnished()
      const watches = await many(135, (i) => pair.ask('5', XS.WATCH, `x|${i}|`))
      expect(watches.indexOf('!E2BIG|')).toBe(129)
      const transactions = await many(15, () => pair.ask('5', XS.TRANSACTION_START, '|'))
      expect(transactions.indexOf('!ENOSPC|')).toBe(11)
      await pair.settle()
      await pair.compareUsage(5)
    })

    test('nodes accessed by a transaction', async () => {
      await using pair = await furnished()
      const txId = Number.parseInt(await pair.ask('5', XS.TRANSACTION_START, '|'), 10)
      const answers = await many(1030, (i) => pair.ask('5', XS.READ, `n${i}|`, txId))
      // The parent counts too, because each node is looked up in it.
      expect(answers.indexOf('!ENOSPC|')).toBe(1023)
      expect(await pair.ask('5', XS.TRANSACTION_END, 'T|', txId)).toBe('!ENOMEM|')
    })

    test('sizes of nodes, permissions, paths', async () => {
      await using pair = await furnished()
      const values = await many(4, (i) => pair.ask('5', XS.WRITE, `x|${'v'.repeat(2014 + i)}`))
      expect(values.indexOf('!ENOSPC|')).toBe(2)
      const names = await many(200, (i) => pair.ask('5', XS.MKDIR, `names/${'n'.repeat(8)}${i}|`))
      expect(names).toContain('!ENOSPC|')
      const permissions = await many(3, (i) =>
        pair.ask('5', XS.SET_PERMS, `w|${'n5|'.repeat(4 + i)}`),
      )
      expect(permissions).toEqual(['!ENOENT|', '!ENOENT|', '!ENOSPC|'])
      const paths = await many(3, (i) =>
        pair.ask('5', XS.READ, `/local/domain/5/${'l'.repeat(2047 + i)}|`),
      )
      expect(paths).toEqual(['!ENOENT|', '!ENOENT|', '!EINVAL|'])
      await pair.compareStores()
    })
  })

  test('a list of children that exceeds one message', async () => {
    await using pair = await Pair.start()
    for (let i = 0; i < 150; i++) {
      await pair.ask('0', XS.MKDIR, `/many/${'n'.repeat(40 + (i % 30))}${i}|`)
    }
    expect(await pair.ask('0', XS.DIRECTORY, '/many|')).toBe('!E2BIG|')
    // Each offset lets the part end within another name.
    for (let offset = 0; offset < 75; offset++) {
      await pair.ask('0', XS.DIRECTORY_PART, `/many|${offset}|`)
    }
    for (let offset = 4000; offset < 10_000; offset += 37) {
      await pair.ask('0', XS.DIRECTORY_PART, `/many|${offset}|`)
    }
  })
})
