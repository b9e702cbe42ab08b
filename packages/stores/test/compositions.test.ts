/**
 * Stacks of several stores: each stack behaves like an array, also if the lowest store sometimes
 * fails.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BlockStore } from '@xenkit/block-store'
import { openVbd } from '@xenkit/vbd'
import {
  type MemoryStore,
  cachedStore,
  encryptedStore,
  faultyStore,
  memoryStore,
  openFileStoreWith,
  overlayStore,
  randomFaults,
  snapshotStore,
  sparseStore,
  throttledStore,
} from '../src/index.ts'
import { rig } from '../../vbd/test/support/rig.ts'
import { jitter } from './support/jitter.ts'
import { expectModelled, readAll } from './support/model.ts'

const SECTORS = 264
const key = randomBytes(64)
let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xenkit-compositions-'))
})
afterAll(() => rm(directory, { recursive: true }))

const plenty = { calls: { perSecond: 1e9 } }
const stacks: Record<string, (base: BlockStore, spare: BlockStore) => BlockStore> = {
  'overlay over cache': (base, spare) =>
    overlayStore(cachedStore(base, { bytes: 16_384, blockSize: 4096 }), { top: spare }),
  'cache over overlay over overlay': (base, spare) =>
    cachedStore(overlayStore(overlayStore(base, { blockSize: 16_384 }), { top: spare }), {
      bytes: 65_536,
      blockSize: 8192,
    }),
  'throttled, encrypted, live': (base) =>
    throttledStore(encryptedStore(snapshotStore(base), { key, allowDiscards: true }), plenty),
  'live, encrypted': (base) => snapshotStore(encryptedStore(base, { key })),
  'encrypted overlay in an encrypted top': (base, spare) =>
    encryptedStore(overlayStore(base, { top: encryptedStore(spare, { key: randomBytes(64) }) }), {
      key,
    }),
}

describe.each(Object.entries(stacks))('%s', (name, stack) => {
  test('is an array over memory', async () => {
    const store = stack(jitter(memoryStore(SECTORS)), jitter(sparseStore(SECTORS)))
    await expectModelled({ store, model: await readAll(store), numRuns: 20 })
  })

  test('and over sectors of 4096 bytes, none of which it takes apart', async () => {
    const whole =
      <R>(call: (sector: number, buffers: Uint8Array[]) => R) =>
      (sector: number, buffers: Uint8Array[]): R => {
        expect([sector % 8, buffers.reduce((sum, { length }) => sum + length, 0) % 4096]).toEqual([
          0, 0,
        ])
        return call(sector, buffers)
      }
    const large = (memory: MemoryStore): BlockStore => ({
      ...memory,
      sectorSize: 4096,
      read: whole(memory.read),
      write: whole(memory.write),
    })
    const store = stack(large(memoryStore(SECTORS)), large(memoryStore(SECTORS)))
    expect(store.sectorSize).toBe(4096)
    await expectModelled({ store, model: await readAll(store), numRuns: 20 })
  })

  test('and over a file', async () => {
    const path = join(directory, `${name}.img`)
    await writeFile(path, new Uint8Array(SECTORS * 512))
    await using file = await openFileStoreWith({}, path)
    const store = stack(file, sparseStore(SECTORS))
    await expectModelled({ store, model: await readAll(store), numRuns: 10 })
  })

  test('and if calls fail, in all that those calls did not touch', async () => {
    let bad = false
    let failed = 0
    const faults = randomFaults({ seed: 7, errors: 0.1, tornWrites: 0.1 })
    const faulty = (memory: BlockStore): BlockStore =>
      faultyStore(jitter(memory), (call) => {
        const fault = bad ? faults(call) : undefined
        if (fault?.error) failed++
        return fault
      })
    const store = stack(faulty(memoryStore(SECTORS)), faulty(memoryStore(SECTORS)))
    const model = await readAll(store)
    bad = true
    await expectModelled({
      store,
      model,
      mayFail: true,
      numRuns: 20,
      healed: () => void (bad = false),
    })
    expect(failed).toBeGreaterThan(10)
  })
})

test("a guest's disk is backed up while the guest writes", async () => {
  const memory = memoryStore(2048)
  const live = snapshotStore(encryptedStore(memory, { key }))
  await live.write?.(0, [new Uint8Array(2048 * 512).fill(1)])
  await using r = await rig({ store: live })
  await r.plug()
  await using disk = await openVbd(r.guest, { vdev: 'xvda' })
  await disk.write(0, [new Uint8Array(64 * 512).fill(2)])
  await using snapshot = await live.take()
  const writing = Promise.all(
    Array.from({ length: 32 }, (_, i) => disk.write(i * 64, [new Uint8Array(64 * 512).fill(3)])),
  )
  const backup = await readAll(snapshot)
  await writing
  expect(backup.subarray(0, 64 * 512).every((byte) => byte === 2)).toBe(true)
  expect(backup.subarray(64 * 512).every((byte) => byte === 1)).toBe(true)
  expect((await readAll(live)).every((byte) => byte === 3)).toBe(true)
})
