import { expect, test } from 'vitest'
import { median, slope } from '../src/statistics.ts'

test('the median is in the middle, whatever the order and the extremes', () => {
  expect(median([3])).toBe(3)
  expect(median([900, 1, 3])).toBe(3)
  expect(median([4, 1, 2, 900])).toBe(3)
  expect(median([])).toBeNaN()
})

test('the slope is that of the line, and of the closest one where there is none', () => {
  expect(slope([{ x: 1, y: 5 }, { x: 2, y: 7 }, { x: 4, y: 11 }])).toBeCloseTo(2)
  expect(slope([{ x: 0, y: 0 }, { x: 1, y: 3 }, { x: 2, y: 0 }])).toBeCloseTo(0)
  expect(slope([{ x: 0, y: 0 }, { x: 1, y: 0 }, { x: 2, y: 6 }])).toBeCloseTo(3)
  expect(slope([{ x: 1, y: 1 }, { x: 1, y: 2 }])).toBeNaN()
})
