import { mkdtemp, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Contestant } from '../benchmarks/disk/contestants.ts'
import { whyNoXenC } from '../../packages/wire/test/compile-c.ts'
import { Rig } from '../rig/rig.ts'
import { usableCpus } from '../src/cpus.ts'

const reason = whyNoXenC()
const skipped = reason ? ` (skipped: ${reason})` : ''
let directory: string
let rig: Rig

beforeAll(async () => {
  if (reason) return
  const cpus = (await usableCpus()).join()
  directory = await mkdtemp(join(tmpdir(), 'xenkit-rig-'))
  rig = await Rig.build({ directory, cpus: { client: cpus, server: cpus } })
}, 60_000)
afterAll(() => reason ?? rm(directory, { recursive: true }))

const REQUESTS = 2_000

describe.skipIf(reason !== undefined).each([
  ['ours, on persistent grants', 1, () => Contestant.ours(rig, 'persistent')],
  ['ours, copied', 1, () => Contestant.ours(rig, 'copy')],
  ['ours', 2, () => Contestant.ours(rig, 'persistent', { queues: 2 })],
  ['ours, by workers', 2, () => Contestant.ours(rig, 'persistent', { queues: 2, workers: 2 })],
  ['ours, in memory', 1, () => Contestant.ours(rig, 'persistent', { store: 'memory' })],
  [
    'ours, in memory, by workers',
    2,
    () => Contestant.ours(rig, 'copy', { queues: 2, workers: 2, store: 'memory' }),
  ],
  ['without a library', 1, () => Contestant.idiomatic(rig)],
  ['in C', 1, () => Contestant.inC(rig, 'pread')],
  ['in C', 2, () => Contestant.inC(rig, 'pread', 2)],
])(`a disk served by a backend, %s, with %d queues${skipped}`, (name, queues, start) => {
  test('holds what was written', { timeout: 60_000 }, async () => {
    await using disk = await start()
    // The guest checks every block that it reads. A wrong block ends its program, which rejects
    // here.
    for (const operation of name === 'without a library'
      ? (['read'] as const)
      : (['write', 'mixed', 'read'] as const)) {
      const { requests } = await disk.turn(
        { operation, depth: 32, segments: 1 },
        { requests: REQUESTS },
      )
      expect(requests).toBe(queues * REQUESTS)
    }
    if (name === 'without a library') return // that backend only has plain reads
    for (const [segments, depth] of [
      [11, 1],
      [12, 4],
      [256, 4],
    ] as const) {
      const { requests, wakes } = await disk.turn(
        { operation: 'mixed', depth, segments },
        { requests: 20 },
      )
      expect(requests).toBe(queues * 20)
      expect(wakes).toBeGreaterThan(0)
    }
  })
})

test.skipIf(reason !== undefined)(
  `the guest detects a block with wrong content${skipped}`,
  { timeout: 60_000 },
  async () => {
    await using disk = await Contestant.ours(rig, 'persistent')
    await truncate(disk.image, 0)
    await truncate(disk.image, 64 * 2 ** 20)
    await expect(
      disk.turn({ operation: 'read', depth: 32, segments: 1 }, { requests: REQUESTS }),
    ).rejects.toThrow(/ended with 1/)
  },
)

test.skipIf(reason !== undefined)(
  `a disk in memory is still served after its image file is truncated${skipped}`,
  { timeout: 60_000 },
  async () => {
    await using disk = await Contestant.ours(rig, 'persistent', { store: 'memory' })
    await truncate(disk.image, 0)
    expect(
      (await disk.turn({ operation: 'mixed', depth: 32, segments: 1 }, { requests: REQUESTS }))
        .requests,
    ).toBe(REQUESTS)
  },
)
