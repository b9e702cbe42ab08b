import { describe, expect, test } from 'vitest'
import { format, passes } from '../src/figure.ts'

describe('a gate', () => {
  test.each([
    [[9, 10, 90], { atLeast: 10 }, true],
    [[9, 9, 90], { atLeast: 10 }, false],
    [[1, 2, 90], { atMost: 2 }, true],
    [[1, 3, 3], { atMost: 2 }, false],
    [[Number.NaN], { atLeast: 10 }, false],
    [[Number.NaN], { atMost: 2 }, false],
    [[], { atMost: 2 }, false],
  ])('on %j is %j: %s', (values, gate, passed) => {
    expect(passes({ name: '', values, gate })).toBe(passed)
  })

  test('that is only a goal is shown and never fails', () => {
    const figure = { name: 'reads', values: [0.5], goal: { atLeast: 0.9 } }
    expect(passes(figure)).toBe(true)
    expect(format(figure)).toMatch(/^reads +0\.5 +\(>= 0\.9\)$/)
  })

  test('is optional', () => {
    expect(passes({ name: '', values: [Number.NaN] })).toBe(true)
  })
})

test('a line of the table has the median, the spread, the gate and the detail', () => {
  expect(
    format({
      name: 'reads',
      values: [12.345, 0.98765, 1234.5],
      gate: { atLeast: 10 },
      detail: '3 / 1',
    }),
  ).toMatch(/^reads +12\.3  0\.988 \.\. 1230 +>= 10 +3 \/ 1$/)
  expect(format({ name: 'events', values: [1], gate: { atMost: 8 } })).toMatch(/^events +1 +<= 8$/)
})
