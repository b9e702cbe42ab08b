/**
 * Measures in rounds in which contestants take turns, so that other load on the machine affects all
 * of them alike.
 */

/**
 * Runs the contestants in each round, in reverse order every other round: a drift from turn to turn
 * cancels out.
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

/** The ratio of both values in each round. */
export const ratios = (values: readonly number[], of: readonly number[]): number[] =>
  values.map((value, round) => value / (of[round] ?? Number.NaN))
