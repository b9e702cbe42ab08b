/**
 * Compares whole backends under the same load, xenkit's and others. docs/bench/disk.md explains the
 * benchmarks.
 */
import { type Figure, type Gate, median, ratios, takeTurns } from '@xenkit/lab'
import type { Bench, Benchmark } from '../../src/benchmark.ts'
import { Rig } from '../../rig/rig.ts'
import { Contestant, type Load, type Turn } from './contestants.ts'

const ROUNDS = 15
const TURN_SECONDS = 0.3
const WARM_UP_SECONDS = 1

/** Starts each contestant (a backend with its guest), by the name that figures use. */
const starts = {
  ours: (rig: Rig) => Contestant.ours(rig, 'persistent'),
  'ours, copied': (rig: Rig) => Contestant.ours(rig, 'copy'),
  'ours, in memory': (rig: Rig) => Contestant.ours(rig, 'persistent', { store: 'memory' }),
  'ours, 2 workers': (rig: Rig) => Contestant.ours(rig, 'persistent', { queues: 2, workers: 2 }),
  'ours, 2 queues': (rig: Rig) => Contestant.ours(rig, 'persistent', { queues: 2 }),
  'fs.read': (rig: Rig) => Contestant.idiomatic(rig),
  'C, pread': (rig: Rig) => Contestant.inC(rig, 'pread'),
  'C, pread and spin': (rig: Rig) => Contestant.inC(rig, 'spin'),
  'C, mmap': (rig: Rig) => Contestant.inC(rig, 'mmap'),
  'C, writes in a thread': (rig: Rig) => Contestant.inC(rig, 'thread'),
  'C, 2 threads': (rig: Rig) => Contestant.inC(rig, 'pread', 2),
} as const

export type Name = keyof typeof starts

export interface Comparison {
  readonly what: Name
  /**
   * Contestants to compare with. If there are several, the one that was fastest over the whole run
   * counts.
   */
  readonly with: readonly Name[]
  readonly gate?: Gate
}

/** A further figure, computed from the measured periods of one contestant. */
export interface Count {
  readonly of: Name
  readonly name: string
  readonly value: (turn: Turn) => number
  readonly gate?: Gate
}

/**
 * Makes a benchmark that runs the contestants named in `comparisons` under the load, one after the
 * other in each round. With `spread`, guests and backends may both use both processors.
 */
export function diskBenchmark(o: {
  readonly title: string
  readonly load: Load
  readonly comparisons: readonly Comparison[]
  readonly counts?: readonly Count[]
  readonly spread?: boolean
}): Benchmark {
  const { title, load, comparisons, counts = [], spread = false } = o
  const names = [
    ...new Set(comparisons.flatMap((comparison) => [comparison.what, ...comparison.with])),
  ]
  return { title, run }

  async function run(bench: Bench): Promise<void> {
    const { directory, cpus } = bench
    const both = `${cpus.client},${cpus.server}`
    const rig = await Rig.build({ directory, cpus: spread ? { client: both, server: both } : cpus })
    const contestants: [Name, Contestant][] = []
    try {
      for (const name of names) contestants.push([name, await starts[name](rig)])
      for (const [, contestant] of contestants) {
        await contestant.turn(load, { seconds: WARM_UP_SECONDS })
      }
      await bench.measure('turns', () => measure(contestants))
    } finally {
      for (const [, contestant] of contestants) await contestant[Symbol.asyncDispose]()
    }
  }

  async function measure(contestants: readonly [Name, Contestant][]): Promise<Figure[]> {
    const turns = new Map<Name, Turn[]>(names.map((name) => [name, []]))
    const rates = await takeTurns<string>(
      ROUNDS,
      Object.fromEntries(
        contestants.map(([name, contestant]) => [
          name,
          async () => {
            const turn = await contestant.turn(load, { seconds: TURN_SECONDS })
            turns.get(name)?.push(turn)
            return turn.requests / turn.seconds
          },
        ]),
      ),
    )
    const rateOf = (name: Name): readonly number[] => rates[name] ?? []
    return [
      ...comparisons.map(({ what, with: others, gate }): Figure => {
        // Compare with the contestant that was fastest over the whole run. The fastest of each
        // round would be the luckier one of two equal contestants.
        const best = others
          .map((name) => ({ name, rates: rateOf(name) }))
          .reduce((a, b) => (median(b.rates) > median(a.rates) ? b : a))
        const detail = `${Math.round(median(rateOf(what)))} / ${Math.round(median(best.rates))} per second${others.length > 1 ? ` (${best.name})` : ''}`
        return {
          name: `${what} / ${others.length > 1 ? `best of ${others.length} in C` : others.join()}`,
          values: ratios(rateOf(what), best.rates),
          detail,
          ...(gate ? { gate } : {}),
        }
      }),
      ...names.map((name): Figure => ({
        name: `${name}: us of the backend's processor per request`,
        values: (turns.get(name) ?? []).map(({ busy, requests }) => (busy * 1e6) / requests),
      })),
      ...counts.map(({ of, name, value, gate }): Figure => ({
        name: `${of}: ${name}`,
        values: (turns.get(of) ?? []).map(value),
        ...(gate ? { gate } : {}),
      })),
    ]
  }
}
