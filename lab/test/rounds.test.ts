import { expect, test } from 'vitest'
import { ratios, takeTurns } from '../src/rounds.ts'

test('contestants take turns, in reverse order every other round', async () => {
  const turns: string[] = []
  const contestant = (name: string) => async () => turns.push(name)
  const results = await takeTurns(3, { a: contestant('a'), b: contestant('b'), c: contestant('c') })
  expect(turns.join('')).toBe('abccbaabc')
  expect(results).toEqual({ a: [1, 6, 7], b: [2, 5, 8], c: [3, 4, 9] })
})

test('ratios are per round', () => {
  expect(ratios([2, 9], [1, 3])).toEqual([2, 3])
  expect(ratios([2, 9], [1])).toEqual([2, Number.NaN])
})
