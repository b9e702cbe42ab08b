import { expect, test } from 'vitest'
import { median } from '../src/median.ts'

test('the median is in the middle, whatever the order and the extremes', () => {
  expect(median([3])).toBe(3)
  expect(median([900, 1, 3])).toBe(3)
  expect(median([4, 1, 2, 900])).toBe(3)
  expect(median([])).toBeNaN()
})
