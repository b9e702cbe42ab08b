import { expect, test } from 'vitest'
import type { Figure } from '../src/figure.ts'
import { plot } from '../src/plot.ts'

/** Returns the horizontal position of each figure's circle in the drawn plot, in order. */
const middles = (figures: readonly Figure[]): number[] =>
  [...plot('', figures).matchAll(/<circle cx="(\d+)"/g)].map(([, x]) => Number(x))

test('better is right of the gate, worse is left of it, and extremes are at the ends', () => {
  const [met = 0, ...others] = middles([
    { name: 'met', values: [2], gate: { atLeast: 2 } },
    { name: 'above a lower limit', values: [4], gate: { atLeast: 2 } },
    { name: 'above an upper limit', values: [4], gate: { atMost: 2 } },
    { name: 'zero with an upper limit of zero', values: [0], gate: { atMost: 0 } },
    { name: 'above an upper limit of zero', values: [7], gate: { atMost: 0 } },
    { name: 'zero with a lower limit', values: [0], gate: { atLeast: 2 } },
  ])
  const [more = 0, less = 0, best = 0, worst, least] = others.map((x) => x - met)
  expect(more).toBeGreaterThan(0)
  expect(less).toBe(-more)
  expect(best).toBeGreaterThan(more)
  expect([worst, least]).toEqual([-best, -best])
})

test('a goal is shown like a gate, but in another colour when it is missed', () => {
  const svg = plot('', [
    { name: 'slow', values: [1], goal: { atLeast: 2 } },
    { name: 'fast', values: [3], goal: { atLeast: 2 } },
  ])
  const [slow, fast] = [...svg.matchAll(/<circle [^>]*fill="(#\w+)"/g)].map(([, color]) => color)
  expect(svg).toContain('1, goal &gt;= 2')
  expect(slow).not.toBe(fast)
  expect(plot('', [{ name: 'slow', values: [1], gate: { atLeast: 2 } }])).not.toContain(slow)
})

test('figures without a gate are left out, and names are escaped', () => {
  const svg = plot('a & b', [
    { name: 'for information', values: [1] },
    { name: 'ours < theirs', values: [1, 2, 3], gate: { atMost: 1 } },
  ])
  expect(svg).not.toContain('for information')
  expect(svg).toContain('ours &lt; theirs')
  expect(svg).toContain('a &amp; b')
  expect(svg).toContain('2, gate &lt;= 1')
})
