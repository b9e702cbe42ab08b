import { expect, test } from 'vitest'
import { parseCpuList, usableCpus } from '../src/cpus.ts'

test.each([
  ['0', [0]],
  ['\t0-1\n', [0, 1]],
  ['2,4-6,9', [2, 4, 5, 6, 9]],
])('%j is %j', (list, cpus) => {
  expect(parseCpuList(list)).toEqual(cpus)
})

test('this process may use at least one processor', async () => {
  expect((await usableCpus()).every(Number.isInteger)).toBe(true)
})
