/** Chooses the figures in the picture of a run. */
import type { Figure } from '@xenkit/lab'
import type { Measurement } from './run-benchmark.ts'

/**
 * Returns the figures that count, with the benchmark's name added to each.
 * @param known names of all benchmarks
 * @returns undefined unless all benchmarks were measured, because a picture shows them all
 */
export function pictured(
  known: readonly string[],
  results: Readonly<Record<string, readonly Measurement[]>>,
): Figure[] | undefined {
  if (known.some((name) => results[name] === undefined)) return undefined
  return known.flatMap((name) =>
    (results[name] ?? [])
      .flatMap(({ attempts }) => attempts.at(-1)?.figures ?? [])
      .map((figure) => ({ ...figure, name: `${name}: ${figure.name}` })),
  )
}
