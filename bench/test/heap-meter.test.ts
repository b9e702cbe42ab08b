import { expect, test } from 'vitest'
import { HeapMeter } from '../src/heap-meter.ts'

const ARRAYS = 200_000
/**
 * An array of 10: its elements alone are 80 bytes, with what it takes to make it there are some
 * more.
 */
const [LEAST, MOST] = [100, 300]

test.each([
  ['kept', (kept: unknown[][], array: unknown[]) => void kept.push(array)],
  ['dropped', () => {}],
])('what is allocated counts, once it is %s', (_, use) => {
  const meter = new HeapMeter()
  const kept: unknown[][] = []
  meter.begin()
  for (let i = 0; i < ARRAYS; i++) use(kept, Array.from({ length: 10 }).fill(i))
  const bytes = meter.end() / ARRAYS
  expect(bytes).toBeGreaterThan(LEAST)
  expect(bytes).toBeLessThan(MOST)
})

test('what is not allocated does not', () => {
  const meter = new HeapMeter()
  const numbers = new Float64Array(100)
  const rounds = 1e6
  meter.begin()
  for (let i = 0; i < rounds; i++) numbers[i % 100] = i
  // What V8 needs to compile the loop is less than a byte for each round, too.
  expect(meter.end()).toBeLessThan(rounds)
})
