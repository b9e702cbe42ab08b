/** `randomNumbers`: numbers for faults and tests that a seed repeats. */
import { UINT32_MAX, expectInteger } from './arguments.ts'

/**
 * Returns a function that gives a random number of 0..1 at each call, 1 excluded: Marsaglia's
 * xorshift32. The same seed gives the same numbers. It is no source of secrets.
 * @param seed 1..2^32-1
 * @throws RangeError for a seed outside this range
 */
export function randomNumbers(seed: number): () => number {
  expectInteger('seed', seed, 1, UINT32_MAX)
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/**
 * Checks odds that a caller gives, by name.
 * @throws RangeError for odds outside 0..1
 */
export function expectOdds(odds: Readonly<Record<string, number | undefined>>): void {
  for (const [name, value] of Object.entries(odds)) {
    if (value !== undefined && !(value >= 0 && value <= 1)) {
      throw new RangeError(`"${name}" expected odds 0..1, got ${value}`)
    }
  }
}
