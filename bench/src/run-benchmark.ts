/** Runs one benchmark in its own folder, on its own processors. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Figure, format, header, median, passes, type Report, reportFigure } from '@xenkit/lab'
import type { Benchmark } from './benchmark.ts'
import { usableCpus } from './cpus.ts'

/**
 * Figures that were measured together. There are one or two attempts, of which the last one counts.
 */
export interface Measurement {
  readonly what: string
  readonly attempts: Attempt[]
}

interface Attempt {
  readonly seconds: number
  readonly figures: readonly (Figure & { readonly median: number; readonly passed: boolean })[]
}

const ATTEMPTS_MAX = 2

export async function runBenchmark(
  name: string,
  benchmark: Benchmark,
  report: Report,
): Promise<Measurement[]> {
  const [server, client] = await usableCpus()
  if (server === undefined || client === undefined) {
    throw new Error('a benchmark needs two processors')
  }
  // The folder is in /tmp, because the path of a unix socket has at most 107 bytes, and a
  // checkout's path may be longer.
  const directory = await mkdtemp(join(tmpdir(), 'xenkit-bench-'))
  const measurements: Measurement[] = []
  report.note(`${name}: ${benchmark.title}\n      ${header}`)
  try {
    await benchmark.run({
      directory,
      cpus: { server, client },
      async measure(what, work) {
        const measurement = { what, attempts: [] }
        measurements.push(measurement)
        await measure(measurement, work, report)
      },
    })
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
  return measurements
}

/** Measures once, and once more if a figure fails its gate. */
export async function measure(
  { what, attempts }: Measurement,
  work: () => Promise<readonly Figure[]>,
  report: Report,
): Promise<void> {
  for (;;) {
    const attempt = await measureOnce(work)
    attempts.push(attempt)
    const failed = attempt.figures.filter(({ passed }) => !passed)
    if (failed.length === 0 || attempts.length === ATTEMPTS_MAX) {
      for (const figure of attempt.figures) reportFigure(figure, report)
      return
    }
    report.note(
      `      ${what}: measured again because of\n${failed.map((figure) => `      ${format(figure)}`).join('\n')}`,
    )
  }
}

async function measureOnce(work: () => Promise<readonly Figure[]>): Promise<Attempt> {
  const begin = performance.now()
  const figures = (await work()).map((figure) => ({
    ...figure,
    median: median(figure.values),
    passed: passes(figure),
  }))
  return { seconds: (performance.now() - begin) / 1000, figures }
}
