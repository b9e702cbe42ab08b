/** Overlays: each behaves like an array, and its base doesn't change. */
import { describe, expect, test } from 'vitest'
import type { BlockStore } from '@xenkit/block-store'
import { memoryStore, overlayStore, sparseStore } from '../src/index.ts'
import { jitter } from './support/jitter.ts'
import { expectModelled, readAll, zeroed } from './support/model.ts'

// A size that is no multiple of a block's, so that the last block is short.
const SECTORS = 259
const pattern = (): Uint8Array => new Uint8Array(SECTORS * 512).map((_, i) => i * 3 + (i >> 9))

const readOnly = ({ sectors, read }: BlockStore): BlockStore => ({ sectors, read })

/**
 * Changes the model as a discard changes the overlay: whole blocks become zeroes, parts of blocks
 * stay.
 */
const zeroedBlocks = (blockSize: number) => (sector: number, count: number, model: Uint8Array) => {
  const block = blockSize / 512
  const first = Math.ceil(sector / block) * block
  const end = sector + count === SECTORS ? SECTORS : Math.floor((sector + count) / block) * block
  if (first < end) zeroed(first, end - first, model)
}

test('a sparse store is an array, whose discarded sectors are zeroes', async () => {
  await expectModelled({ store: sparseStore(SECTORS), discarded: zeroed })
})

test('a sparse store takes memory for what was written', () => {
  const store = sparseStore(2 ** 43)
  void store.write(2 ** 43 - 9, [new Uint8Array(512).fill(3)])
  const got = new Uint8Array(1024)
  void store.read(2 ** 43 - 10, [got])
  expect([got[511], got[512], got[1023]]).toEqual([0, 3, 3])
  void store.discard(0, 2 ** 43, { secure: false })
  void store.read(2 ** 43 - 10, [got])
  expect(got.every((byte) => byte === 0)).toBe(true)
})

describe.each([512, 4096, 32_768])('blocks of %i', (blockSize) => {
  test('it is an array, the base stays as it is; reset forgets, commit keeps', async () => {
    const base = memoryStore(pattern())
    // This `top` has no `discard`: discarded blocks keep their bytes there, and must not be read.
    const { sectors, read, write } = memoryStore(new Uint8Array(SECTORS * 512).fill(0xee))
    const top = jitter({ sectors, read, write }, 7)
    const store = overlayStore(jitter(base), { top, blockSize })
    const discarded = zeroedBlocks(blockSize)
    await expectModelled({ store, model: pattern(), discarded })
    expect(Buffer.compare(base.bytes, pattern())).toBe(0)
    await store.reset()
    expect(Buffer.compare(await readAll(store), pattern())).toBe(0)
    const model = await expectModelled({ store, model: pattern(), discarded, numRuns: 5 })
    await store.commit()
    expect(Buffer.compare(base.bytes, model)).toBe(0)
    // After the commit the overlay continues over the changed base.
    await expectModelled({ store, model, discarded, numRuns: 5 })
  })

  test('commits between and during calls change nothing that is read', async () => {
    const store = overlayStore(jitter(memoryStore(pattern())), { blockSize })
    const commits: Promise<void>[] = []
    await expectModelled({
      store,
      model: pattern(),
      discarded: zeroedBlocks(blockSize),
      numRuns: 20,
      async meanwhile() {
        commits.push(store.commit())
      },
    })
    await Promise.all(commits)
  })
})

test('an overlay of the largest disk there is, and a discard of all of it', async () => {
  const base: BlockStore = { sectors: 2 ** 43, read: (_, into) => void into[0]?.fill(7) }
  const store = overlayStore(base)
  const at = async (sector: number): Promise<number | undefined> => {
    const into = new Uint8Array(512)
    await store.read(sector, [into])
    return into[0]
  }
  await store.write?.(2 ** 42, [new Uint8Array(4096).fill(1)])
  await store.discard?.(8, 2 ** 43 - 8, { secure: false })
  await store.write?.(2 ** 43 - 1, [new Uint8Array(512).fill(2)])
  const sectors = [0, 7, 8, 2 ** 42, 2 ** 43 - 2, 2 ** 43 - 1]
  expect(await Promise.all(sectors.map(at))).toEqual([7, 7, 0, 0, 0, 2])
  await store.reset()
  expect(await Promise.all(sectors.map(at))).toEqual([7, 7, 7, 7, 7, 7])
})

test('overlays stack, in memory and over a read-only base', async () => {
  const base = memoryStore(pattern())
  const middle = overlayStore(readOnly(base))
  await middle.write?.(3, [new Uint8Array(512).fill(1)])
  const model = pattern()
  model.fill(1, 3 * 512, 4 * 512)
  await expectModelled({
    store: overlayStore(middle),
    model: model.slice(),
    discarded: zeroedBlocks(4096),
  })
  expect(Buffer.compare(await readAll(middle), model)).toBe(0)
})

test("writes to sectors of one block don't lose each other", async () => {
  const store = overlayStore(jitter(memoryStore(pattern())), {
    top: jitter(sparseStore(SECTORS), 5),
  })
  await Promise.all(
    Array.from({ length: 8 }, (_, i) => store.write?.(i, [new Uint8Array(512).fill(i + 1)])),
  )
  const got = await readAll(store)
  expect(Array.from({ length: 8 }, (_, i) => got[i * 512])).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
})

describe('what fails', () => {
  test("a read-only base can't be committed to", async () => {
    await expect(overlayStore(readOnly(memoryStore(8))).commit()).rejects.toThrow(TypeError)
  })

  test('a top that is too small or read-only, a block of no whole sectors', () => {
    expect(() => overlayStore(memoryStore(8), { top: memoryStore(7) })).toThrow(
      /7 sectors, expected 8/,
    )
    expect(() => overlayStore(memoryStore(8), { top: readOnly(memoryStore(8)) })).toThrow(
      /read-only/,
    )
    for (const blockSize of [0, 256, 1000, 3 * 512, 1.5, 2 ** 21]) {
      expect(() => overlayStore(memoryStore(8), { blockSize })).toThrow()
    }
    expect(() => overlayStore({ ...memoryStore(8), sectorSize: 4096 }, { blockSize: 512 })).toThrow(
      RangeError,
    )
  })

  test('a failed read of the base fails the write that needs it, and changes nothing', async () => {
    const memory = memoryStore(pattern())
    let broken = true
    const store = overlayStore({
      sectors: SECTORS,
      async read(sector, into) {
        if (broken) throw new Error('EIO')
        return memory.read(sector, into)
      },
    })
    await expect(store.write?.(1, [new Uint8Array(512)])).rejects.toThrow('EIO')
    // A write of a whole block doesn't read the base.
    await store.write?.(8, [new Uint8Array(4096).fill(5)])
    broken = false
    await store.write?.(1, [new Uint8Array(512).fill(9)])
    const model = pattern()
    model.fill(5, 4096, 8192)
    model.fill(9, 512, 1024)
    expect(Buffer.compare(await readAll(store), model)).toBe(0)
  })

  test('a base that returns short is an error, not zeroes', async () => {
    const store = overlayStore({ sectors: 8, read: () => ({ bytesRead: 512 }) })
    await expect(store.read(0, [new Uint8Array(1024)])).rejects.toThrow(/moved 512 of 1024 bytes/)
  })

  test('a commit that fails leaves the overlay as it was', async () => {
    const base = memoryStore(pattern())
    let broken = true
    const store = overlayStore({
      ...base,
      sectors: SECTORS,
      write: (sector, from) =>
        broken && sector > 100 ? Promise.reject(new Error('ENOSPC')) : base.write(sector, from),
    })
    await store.write?.(0, [new Uint8Array(4096).fill(1)])
    await store.write?.(200, [new Uint8Array(4096).fill(2)])
    const before = await readAll(store)
    await expect(store.commit()).rejects.toThrow('ENOSPC')
    expect(Buffer.compare(await readAll(store), before)).toBe(0)
    broken = false
    await store.commit()
    expect(Buffer.compare(base.bytes, before)).toBe(0)
  })
})
