/**
 * `openMemoryStoreWith`: without the addon the disk is an array; with an `openMemory` it uses that
 * memory.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import {
  ImageError,
  type OpenMemory,
  openMemoryStoreWith,
  sharedMemoryStore,
} from '../src/index.ts'
import { expectModelled, readAll, zeroed } from './support/model.ts'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-open-memory-'))
afterAll(() => rmSync(folder, { recursive: true }))

test('is zeroes at first, then an array', async () => {
  using store = await openMemoryStoreWith({}, 300)
  await expectModelled({ store, discarded: zeroed, numRuns: 10 })
})

test('is what an image holds, whatever its length, and leaves that alone', async () => {
  const path = join(folder, 'disk.img')
  for (const sectors of [1, 512, 1_025]) {
    const content = Buffer.alloc(sectors * 512, 'xenkit')
    writeFileSync(path, content)
    using store = await openMemoryStoreWith({}, path)
    expect(Buffer.compare(await readAll(store), content)).toBe(0)
    await expectModelled({ store, discarded: zeroed, model: Uint8Array.from(content), numRuns: 2 })
    using again = await openMemoryStoreWith({}, path)
    expect(Buffer.compare(await readAll(again), content)).toBe(0)
  }
})

/** An `openMemory` without memory: it records the calls and counts the open images. */
function counting(): {
  readonly openMemory: OpenMemory
  readonly calls: unknown[]
  open(): number
} {
  const calls: unknown[] = []
  let open = 0
  const openMemory: OpenMemory = (what) => {
    open++
    calls.push(what)
    return {
      id: 7,
      read: (position) => (calls.push(['read', position]), 512),
      write: () => expect.fail('not asked to'),
      discard: async (...range) => void calls.push(['discard', ...range]),
      resize: (bytes) => void calls.push(['resize', bytes]),
      openBatch: () => expect.fail('not asked to'),
      close: () => void open--,
    }
  }
  return { openMemory, calls, open: () => open }
}

test("an image that can't be read says why, and nothing stays open", async () => {
  await expect(openMemoryStoreWith({}, join(folder, 'missing.img'))).rejects.toThrow(ImageError)
  const path = join(folder, 'cut.img')
  writeFileSync(path, Buffer.alloc(1_024 * 1_024))
  const { openMemory, calls, open } = counting()
  const failing = openMemoryStoreWith(
    {
      openMemory(what) {
        // Truncates the image after it was opened, before its content is read.
        truncateSync(path, 512)
        return openMemory(what)
      },
    },
    path,
  )
  await expect(failing).rejects.toThrow('it was truncated while being served')
  expect(calls).toEqual([{ bytes: 1_024 * 1_024 }])
  expect(open()).toBe(0)
})

test('listeners hear of a smaller size before the cut, and of a larger one after it', async () => {
  const { openMemory, calls } = counting()
  const store = await openMemoryStoreWith({ openMemory }, 8)
  store.onResize(() => calls.push(store.sectors))
  store.resize(4)
  store.resize(4)
  store.resize(6)
  expect(calls).toEqual([
    { bytes: 4096 },
    4,
    ['resize', 2048],
    ['resize', 2048],
    ['resize', 3072],
    6,
  ])
})

test('another thread has the memory open during its calls alone, also those that fail', async () => {
  const { openMemory, calls, open } = counting()
  const store = sharedMemoryStore({ id: 7 }, { sectors: 8 }, openMemory)
  expect(store.read(2, [new Uint8Array(512)])).toEqual({ bytesRead: 512 })
  await store.discard?.(1, 3, { secure: true })
  expect(() => store.write?.(0, [])).toThrow('not asked to')
  expect(calls).toEqual([{ id: 7 }, ['read', 1024], { id: 7 }, ['discard', 512, 1536], { id: 7 }])
  expect(open()).toBe(0)
})

test('is shared only with a module for other threads, until each has disposed of it', async () => {
  const { openMemory, calls, open } = counting()
  expect((await openMemoryStoreWith({ openMemory }, 8)).share?.()).toBeUndefined()
  const store = await openMemoryStoreWith({ openMemory, shareBy: () => 'some:module' }, 8)
  const shared = store.share?.()
  expect(shared).toMatchObject({ module: 'some:module', data: { id: 7 } })
  expect(calls.at(-1)).toEqual({ id: 7 })
  expect(open()).toBe(3)
  shared?.[Symbol.dispose]()
  store.close()
  expect(open()).toBe(1)
})
