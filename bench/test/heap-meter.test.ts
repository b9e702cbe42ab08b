import { expect, test } from 'vitest'
import { HeapMeter } from '../src/heap-meter.ts'

const ARRAYS = 200_000
/**
 * Bytes that an array of 10 elements takes at least and at most: its elements alone take 80, and
 * Array.from allocates some more.
 */
const [LEAST, MOST] = [100, 300]

test.each([
  ['kept', (kept: unknown[][], array: unknown[]) => void kept.push(array)],
  ['dropped', () => {}],
])('an allocation counts, whether it is %s', (_, use) => {
  const meter = new HeapMeter()
  const kept: unknown[][] = []
  meter.begin()
  for (let i = 0; i < ARRAYS; i++) use(kept, Array.from({ length: 10 }).fill(i))
  const bytes = meter.end() / ARRAYS
  expect(bytes).toBeGreaterThan(LEAST)
  expect(bytes).toBeLessThan(MOST)
})

test('a loop that allocates nothing counts nothing', () => {
  const meter = new HeapMeter()
  const numbers = new Float64Array(100)
  const rounds = 1e6
  meter.begin()
  for (let i = 0; i < rounds; i++) numbers[i % 100] = i
  // Compiling the loop allocates too, but less than a byte per repetition.
  expect(meter.end()).toBeLessThan(rounds)
})
