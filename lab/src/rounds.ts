/**
 * Measures several contestants alternately, so that other load on the machine affects all of them
 * alike.
 */

/**
 * Measures every contestant once in each round, in reverse order every other round, so that a slow
 * drift of the machine's speed cancels out.
 * @returns the values of each contestant, by round
 */
export async function takeTurns<Name extends string, Value = number>(
  rounds: number,
  contestants: Readonly<Record<Name, () => Promise<Value>>>,
): Promise<Record<Name, Value[]>> {
  const names = Object.keys(contestants) as Name[] // `contestants` has no other keys
  const results = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<
    Name,
    Value[]
  >
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      results[name].push(await contestants[name]())
    }
  }
  return results
}

/** Returns, for each round, the ratio of the first value to the second. */
export const ratios = (values: readonly number[], of: readonly number[]): number[] =>
  values.map((value, round) => value / (of[round] ?? Number.NaN))
