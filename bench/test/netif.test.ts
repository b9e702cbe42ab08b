import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { whyNoTap } from '../../native/test/tap.ts'
import { whyNoXenC } from '../../packages/wire/test/compile-c.ts'
import { Contestant } from '../benchmarks/netif/contestants.ts'
import { Rig } from '../rig/rig.ts'
import { usableCpus } from '../src/cpus.ts'

const reason = whyNoXenC() ?? whyNoTap()
const skipped = reason ? ` (skipped: ${reason})` : ''
const programs = join(import.meta.dirname, '../benchmarks/netif/programs')
let directory: string
let rig: Rig

beforeAll(async () => {
  if (reason) return
  const cpus = (await usableCpus()).join()
  directory = await mkdtemp(join(tmpdir(), 'xenkit-rig-'))
  rig = await Rig.build({ directory, cpus: { client: cpus, server: cpus } }, programs)
}, 60_000)
afterAll(() => reason ?? rm(directory, { recursive: true }))

const PACKETS = 500

describe.skipIf(reason !== undefined).each([
  ['ours', () => Contestant.ours(rig)],
  ['each', () => Contestant.inC(rig, 'each')],
  ['uring', () => Contestant.inC(rig, 'uring')],
] as const)(`a card served by the backend "%s"${skipped}`, (name, start) => {
  test('passes packets of all sizes, both ways', { timeout: 60_000 }, async () => {
    await using card = await start()
    const count = async (what: 'packets' | 'bytes'): Promise<number> =>
      Number(await readFile(`/sys/class/net/xkb-${name}/statistics/rx_${what}`, 'utf8'))
    for (const size of [60, 1514, 1515, 4096, 4097, 65_535]) {
      const before = [await count('packets'), await count('bytes')] as const
      const load = { size, depth: 64 }
      const sent = await card.turn({ ...load, direction: 'tx' }, { packets: PACKETS })
      expect(sent.packets).toBe(PACKETS)
      expect((await count('packets')) - before[0]).toBe(PACKETS)
      expect((await count('bytes')) - before[1]).toBe(PACKETS * size)
      // The guest checks every packet that it receives. A wrong one ends its program, which
      // rejects here.
      const received = await card.turn({ ...load, direction: 'rx' }, { packets: PACKETS })
      expect(received.packets).toBe(PACKETS)
    }
  })
})
