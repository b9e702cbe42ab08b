/**
 * A snapshot shows the disk's content at the moment it was taken, whatever is written afterwards.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BlockStore } from '@xenkit/block-store'
import {
  type LiveStore,
  type Snapshot,
  memoryStore,
  overlayStore,
  snapshotStore,
  sparseStore,
} from '../src/index.ts'
import { jitter } from './support/jitter.ts'
import { expectModelled, readAll, zeroed } from './support/model.ts'

const SECTORS = 259

describe.each([512, 4096, 65_536])('blocks of %i', (blockSize) => {
  test('the disk is an array, and each snapshot what it was when taken', async () => {
    const store = snapshotStore(jitter(memoryStore(SECTORS)), { blockSize })
    const open: { readonly snapshot: Snapshot; readonly held: Uint8Array }[] = []
    let rounds = 0
    await expectModelled({
      store,
      discarded: zeroed,
      async meanwhile(_, model) {
        for (const { snapshot, held } of open) {
          expect(Buffer.compare(await readAll(snapshot), held)).toBe(0)
        }
        if (open.length > 3) await open.shift()?.snapshot.close()
        if (++rounds % 3 === 0) {
          open.push({
            snapshot: await store.take(
              rounds % 2 ? {} : { into: jitter(memoryStore(SECTORS + 9), rounds) },
            ),
            held: model.slice(),
          })
        }
      },
    })
    expect(open.length).toBeGreaterThan(1)
    for (const { snapshot } of open) await snapshot.close()
  })

  test('a snapshot has each concurrent write as a whole or not at all: all that started before it, none that started later', async () => {
    /**
     * Slots of 16 sectors to write, in random order. The snapshot is taken after the first `before`
     * writes have started.
     */
    const order = fc.shuffledSubarray(
      Array.from({ length: 16 }, (_, i) => i),
      { minLength: 1 },
    )
    await fc.assert(
      fc.asyncProperty(
        order,
        fc.nat(16),
        fc.nat(3),
        fc.integer({ min: 1, max: 2 ** 31 }),
        async (slots, before, turns, seed) => {
          const store = snapshotStore(jitter(memoryStore(SECTORS), seed), { blockSize })
          const ended = new Set<number>()
          const write = async (slot: number): Promise<void> => {
            await store.write?.(slot * 16 + 1, [new Uint8Array(9 * 512).fill(slot + 1)])
            ended.add(slot)
          }
          const writes = slots.slice(0, before).map(write)
          for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
          const endedBefore = new Set(ended)
          const taking = store.take()
          const beside = slots.slice(before).map(write)
          const snapshot = await taking
          const later = Array.from({ length: 16 }, (_, i) => i).filter(
            (slot) => !slots.includes(slot),
          )
          writes.push(...beside, ...later.map(write))
          // Reads the snapshot during the later writes, and once more after they have finished.
          const held = await readAll(snapshot)
          await Promise.all(writes)
          expect(Buffer.compare(await readAll(snapshot), held)).toBe(0)
          for (let slot = 0; slot < 16; slot++) {
            const bytes = new Set(held.subarray((slot * 16 + 1) * 512, (slot * 16 + 10) * 512))
            expect(bytes.size).toBe(1)
            if (endedBefore.has(slot)) expect(bytes.has(slot + 1)).toBe(true)
            if (later.includes(slot)) expect(bytes.has(0)).toBe(true)
          }
          await snapshot.close()
        },
      ),
      { numRuns: 60 },
    )
  })
})

test("without a snapshot, writes that share a block don't wait for each other, and nothing is read", async () => {
  let [under, most, reads] = [0, 0, 0]
  const slow: BlockStore = {
    sectors: 64,
    read: () => void reads++,
    async write() {
      most = Math.max(most, ++under)
      await new Promise((resolve) => setImmediate(resolve))
      under--
    },
  }
  const store = snapshotStore(slow)
  const write = (sector: number): unknown => store.write?.(sector, [new Uint8Array(512)])
  await Promise.all([write(0), write(1), write(2)])
  expect([most, reads]).toEqual([3, 0])
  const snapshot = await store.take()
  most = 0
  await Promise.all([write(0), write(1), write(2)])
  expect([most, reads]).toEqual([1, 1])
  await snapshot.close()
  most = 0
  await Promise.all([write(0), write(1), write(2)])
  expect([most, reads]).toEqual([3, 1])
})

test('it is a store: another goes on top of it', async () => {
  const store = snapshotStore(memoryStore(new Uint8Array(8 * 512).fill(1)))
  await using snapshot = await store.take()
  expect(snapshot.write).toBeUndefined()
  const scratch = overlayStore(snapshot)
  await store.write?.(0, [new Uint8Array(512).fill(2)])
  await scratch.write?.(1, [new Uint8Array(512).fill(3)])
  const got = await readAll(scratch)
  expect([got[0], got[512], got[1024]]).toEqual([1, 3, 1])
})

test('the disk may grow: a snapshot keeps its size', async () => {
  const memory = memoryStore(new Uint8Array(9 * 512).fill(1))
  const store = snapshotStore(memory, { blockSize: 4096 })
  await using snapshot = await store.take()
  memory.resize(64)
  await store.write?.(8, [new Uint8Array(16 * 512).fill(2)])
  await store.write?.(40, [new Uint8Array(512).fill(2)])
  expect([store.sectors, snapshot.sectors]).toEqual([64, 9])
  expect((await readAll(snapshot)).every((byte) => byte === 1)).toBe(true)
})

test('a discard is cut while a snapshot is open, and zeroes are not copied', async () => {
  const memory = memoryStore(8192)
  await memory.write(4096, [new Uint8Array(512).fill(3)])
  const store = snapshotStore(memory)
  const written: number[] = []
  const into = sparseStore(8192)
  const limits = (): number | undefined => store.discardLimits?.maximum
  const write: BlockStore['write'] = (sector, from) => {
    written.push(sector)
    return into.write(sector, from)
  }
  const snapshot = await store.take({ into: { ...into, write } })
  expect(limits()).toBe(2 ** 20)
  await store.discard?.(0, 8192, { secure: false })
  // The snapshot checks 1 MiB at a time for zeroes, and copies the MiB that isn't zero.
  expect(written).toEqual([4096])
  expect((await readAll(store)).every((byte) => byte === 0)).toBe(true)
  const held = await readAll(snapshot)
  expect([held[4096 * 512], held.filter((byte) => byte !== 0).length]).toEqual([3, 512])
  await snapshot.close()
  const { discardLimits: _, ...plain } = memory
  const unlimited = snapshotStore(plain)
  expect(unlimited.discardLimits?.maximum).toBe(Infinity)
})

test('no secure discard: a snapshot would have the data', () => {
  const { discardLimits } = snapshotStore(memoryStore(8))
  expect(discardLimits).toMatchObject({ granularity: 512, alignment: 0, secure: false })
})

describe('what fails', () => {
  async function expectLost(store: LiveStore, snapshot: Snapshot): Promise<void> {
    await store.write?.(0, [new Uint8Array(512).fill(2)])
    await store.discard?.(1, 1, { secure: false })
    await expect(snapshot.read(0, [new Uint8Array(512)])).rejects.toMatchObject({
      code: 'ERR_XEN_SNAPSHOT',
      message: expect.stringContaining('lost'),
      cause: expect.objectContaining({ message: 'EIO' }),
    })
    const got = await readAll(store)
    expect([got[0], got[512], got[1024]]).toEqual([2, 0, 1])
    // The failure of one snapshot doesn't affect the next one.
    await using next = await store.take()
    expect(Buffer.compare(await readAll(next), got)).toBe(0)
    await snapshot.close()
  }

  const broken = async (): Promise<void> => {
    throw new Error('EIO')
  }

  test('if the block can not be copied, the snapshot is lost, not the write', async () => {
    const store = snapshotStore(memoryStore(new Uint8Array(8 * 512).fill(1)))
    await expectLost(store, await store.take({ into: { ...sparseStore(8), write: broken } }))
  })

  test("if the block can't be read, the snapshot is lost, not the write", async () => {
    const memory = memoryStore(new Uint8Array(8 * 512).fill(1))
    let once = true
    const store = snapshotStore({
      ...memory,
      async read(sector, into) {
        if (once) {
          once = false
          return broken()
        }
        return memory.read(sector, into)
      },
    })
    await expectLost(store, await store.take())
  })

  test('a write that fails rejects, and the snapshot keeps the old data', async () => {
    const memory = memoryStore(new Uint8Array(8 * 512).fill(1))
    const store = snapshotStore({ ...memory, write: broken })
    await using snapshot = await store.take()
    await expect(store.write?.(0, [new Uint8Array(512)])).rejects.toThrow('EIO')
    expect((await readAll(snapshot)).every((byte) => byte === 1)).toBe(true)
  })

  test('closed while it is read: the read ends first, later ones reject', async () => {
    const store = snapshotStore(jitter(memoryStore(64)))
    const snapshot = await store.take()
    const order: string[] = []
    const reading = readAll(snapshot).then(() => order.push('read'))
    await Promise.all([
      snapshot.close().then(() => order.push('closed')),
      snapshot.close(),
      reading,
    ])
    expect(order).toEqual(['read', 'closed'])
    await expect(snapshot.read(0, [new Uint8Array(512)])).rejects.toMatchObject({
      code: 'ERR_XEN_SNAPSHOT',
      message: 'the snapshot is closed',
    })
    await store.write?.(0, [new Uint8Array(512)])
  })

  test('nowhere to copy to', async () => {
    const { sectors, read } = memoryStore(8)
    const store = snapshotStore(memoryStore(8))
    await expect(store.take({ into: { sectors, read } })).rejects.toThrow(RangeError)
    await expect(store.take({ into: memoryStore(7) })).rejects.toThrow(RangeError)
    expect(() => snapshotStore(memoryStore(8), { blockSize: 1000 })).toThrow(RangeError)
  })
})
