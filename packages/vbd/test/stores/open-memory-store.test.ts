/** `openMemoryStore` where there is no addon: an array. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { ImageError, openMemoryStore } from '../../src/stores/index.ts'
import { expectModelled, readAll, zeroed } from './model.ts'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-open-memory-'))
afterAll(() => rmSync(folder, { recursive: true }))

test('is zeroes at first, then an array', async () => {
  using store = await openMemoryStore(300)
  await expectModelled({ store, discarded: zeroed, numRuns: 10 })
})

test('is what an image holds, whatever its length, and leaves that alone', async () => {
  const path = join(folder, 'disk.img')
  for (const sectors of [1, 512, 1_025]) {
    const content = Buffer.alloc(sectors * 512, 'xenkit')
    writeFileSync(path, content)
    using store = await openMemoryStore(path)
    expect(Buffer.compare(await readAll(store), content)).toBe(0)
    await expectModelled({ store, discarded: zeroed, model: Uint8Array.from(content), numRuns: 2 })
    using again = await openMemoryStore(path)
    expect(Buffer.compare(await readAll(again), content)).toBe(0)
  }
})

test('an image that can\'t be read says why, and nothing stays open', async () => {
  await expect(openMemoryStore(join(folder, 'missing.img'))).rejects.toThrow(ImageError)
  const path = join(folder, 'cut.img')
  writeFileSync(path, Buffer.alloc(1_024 * 1_024, 1))
  let [open, most] = [0, 0]
  // Cut while it is read.
  const failing = openMemoryStore(path, {
    openMemory: ({ ...what }) => {
      most = Math.max(most, ++open)
      expect(what).toEqual({ bytes: 1_024 * 1_024 })
      truncateSync(path, 512)
      return { id: 1, read: () => 0, write: (_, from) => from.length, discard: async () => {}, resize() {}, openBatch: () => expect.unreachable(), close: () => void open-- }
    },
  })
  await expect(failing).rejects.toThrow('it was truncated while being served')
  expect([open, most]).toEqual([0, 1])
})
