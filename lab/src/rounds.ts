/**
 * Rounds in which contestants take turns, so that whatever else the machine does hits all of them
 * alike.
 */

/**
 * Every other round goes backwards: what drifts from turn to turn cancels out.
 * @returns what each contestant measured, per round
 */
export async function takeTurns<Name extends string, Value = number>(
  rounds: number,
  contestants: Readonly<Record<Name, () => Promise<Value>>>,
): Promise<Record<Name, Value[]>> {
  const names = Object.keys(contestants) as Name[] // no others are given
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

/** Per round. */
export const ratios = (values: readonly number[], of: readonly number[]): number[] =>
  values.map((value, round) => value / (of[round] ?? Number.NaN))
