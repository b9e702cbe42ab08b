/** `cachedStore` reads as its base does, and reads each cached block from the base only once. */
import { describe, expect, test } from 'vitest'
import type { BlockStore } from '@xenkit/block-store'
import { type MemoryStore, cachedStore, memoryStore } from '../src/index.ts'
import { jitter } from './support/jitter.ts'
import { expectModelled, readAll, zeroed } from './support/model.ts'

const SECTORS = 259

describe.each([512, 4096, 65_536])('blocks of %i', (blockSize) => {
  test.each([1, 3, 1000])('with room for %i blocks, it reads as its base', async (count) => {
    const memory = memoryStore(SECTORS)
    const store = cachedStore(jitter(memory), { bytes: count * blockSize, blockSize })
    const model = await expectModelled({ store, discarded: zeroed })
    expect(Buffer.compare(memory.bytes, model)).toBe(0)
  })
})

/** A store over `memory` that counts the sectors read through it. */
function counted(memory: MemoryStore): BlockStore & { readonly sectorsRead: number[] } {
  const sectorsRead: number[] = []
  return Object.assign(jitter(memory), {
    sectorsRead,
    read(sector: number, into: Uint8Array[]) {
      sectorsRead.push(sector)
      return memory.read(sector, into)
    },
  })
}

const read = async (store: BlockStore, sector: number): Promise<number | undefined> => {
  const buffer = new Uint8Array(512)
  await store.read(sector, [buffer])
  return buffer[0]
}

test('a block is read once, by its first reader; a write drops it', async () => {
  const base = counted(memoryStore(64))
  const store = cachedStore(base, { bytes: 65_536, blockSize: 4096 })
  await Promise.all([read(store, 9), read(store, 10), read(store, 15)])
  expect(base.sectorsRead).toEqual([8])
  await store.write?.(12, [new Uint8Array(512).fill(5)])
  expect(await read(store, 12)).toBe(5)
  await store.discard?.(12, 1, { secure: false })
  expect(await read(store, 12)).toBe(0)
  expect(base.sectorsRead).toEqual([8, 8, 8])
})

test('a write concurrent with a read of its block is kept', async () => {
  const store = cachedStore(jitter(memoryStore(64), 3), { bytes: 65_536 })
  for (let i = 1; i < 50; i++) {
    await Promise.all([
      read(store, 0),
      store.write?.(5, [new Uint8Array(512).fill(i)]),
      read(store, 1),
    ])
    expect(await read(store, 5)).toBe(i)
  }
})

test('the least recently used block goes first', async () => {
  const base = counted(memoryStore(64))
  const store = cachedStore(base, { bytes: 2 * 4096, blockSize: 4096 })
  for (const sector of [0, 8, 0, 16, 0, 8]) await read(store, sector)
  expect(base.sectorsRead).toEqual([0, 8, 16, 8])
})

test('a read larger than the cache bypasses it', async () => {
  const base = counted(memoryStore(64))
  const store = cachedStore(base, { bytes: 4096, blockSize: 4096 })
  await readAll(store)
  await readAll(store)
  expect(base.sectorsRead).toEqual([0, 0])
})

test('a disk that grows has new sectors after its old end', async () => {
  const memory = memoryStore(9)
  const store = cachedStore(memory, { bytes: 65_536, blockSize: 4096 })
  await readAll(store)
  memory.resize(16)
  memory.bytes.fill(4, 9 * 512)
  expect([store.sectors, await read(store, 15)]).toEqual([16, 4])
})

test("a failed read rejects, and isn't cached", async () => {
  let bad = true
  const store = cachedStore(
    { sectors: 8, read: () => (bad ? Promise.reject(new Error('EIO')) : undefined) },
    { bytes: 4096, blockSize: 4096 },
  )
  await expect(read(store, 0)).rejects.toThrow('EIO')
  bad = false
  await read(store, 0)
})

test('a cache of less than a block', () => {
  expect(() => cachedStore(memoryStore(8), { bytes: 4096 })).toThrow(
    /"bytes" expected an integer 65536/,
  )
})

test.each([8, 8192])('of %i blocks, a long discard drops those that it covers', async (blocks) => {
  const base = counted(memoryStore(2 * 8192))
  const store = cachedStore(base, { bytes: blocks * 512, blockSize: 512 })
  for (let block = 0; block < blocks; block++) await read(store, block * 2)
  await store.discard?.(2, 16_000, { secure: false })
  base.sectorsRead.length = 0
  for (const sector of [0, 2, 4]) await read(store, sector)
  expect(base.sectorsRead).toEqual(blocks > 4096 ? [0, 2, 4] : [2, 4])
})
