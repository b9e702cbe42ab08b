import { expect, test } from 'vitest'
import { pictured } from '../src/pictured.ts'
import type { Measurement } from '../src/run-benchmark.ts'

const measurement = (...medians: readonly number[]): Measurement => ({
  what: 'turns',
  attempts: medians.map((median) => ({
    seconds: 1,
    figures: [{ name: 'ours / theirs', values: [median], median, passed: true }],
  })),
})

test('a run of all benchmarks is shown in their order, each by its last attempt', () => {
  const figures = pictured(['codec', 'wake'], {
    wake: [measurement(3)],
    codec: [measurement(1, 2)],
  })
  expect(figures?.map(({ name, values }) => [name, values])).toEqual([
    ['codec: ours / theirs', [2]],
    ['wake: ours / theirs', [3]],
  ])
})

test('a run of some benchmarks, or with a failed one, is not shown', () => {
  expect(pictured(['codec', 'wake'], { codec: [measurement(1)] })).toBeUndefined()
})
