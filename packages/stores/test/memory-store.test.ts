import { expect, test } from 'vitest'
import { memoryStore } from '../src/index.ts'
import { expectModelled, zeroed } from './support/model.ts'

test('is an array, whose discarded sectors are zeroes', async () => {
  const store = memoryStore(300)
  const model = await expectModelled({ store, discarded: zeroed })
  expect(Buffer.compare(store.bytes, model)).toBe(0)
})

test('resize keeps what still fits, lengthens by zeroes and tells who listens', () => {
  const store = memoryStore(new Uint8Array(4 * 512).fill(7))
  const sizes: number[] = []
  const listening = store.onResize(() => sizes.push(store.sectors))
  store.resize(2)
  store.resize(3)
  store.resize(3)
  expect(sizes).toEqual([2, 3])
  expect(
    Buffer.compare(store.bytes, Buffer.concat([Buffer.alloc(1024, 7), Buffer.alloc(512)])),
  ).toBe(0)
  listening[Symbol.dispose]()
  store.resize(4)
  expect(sizes).toEqual([2, 3])
  expect(() => store.resize(0)).toThrow(RangeError)
  expect(store.sectors).toBe(4)
})
