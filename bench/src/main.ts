/** `npm run bench -- NAME... [--json FILE] [--svg FILE]` measures; without a name it measures everything. */
import { writeFile } from 'node:fs/promises'
import { type Figure, plot, Report } from '@xenkit/lab'
import { benchmarks } from '../benchmarks/index.ts'
import { readArguments } from './arguments.ts'
import { describeEnvironment, environment } from './environment.ts'
import { type Measurement, runBenchmark } from './run-benchmark.ts'

/** Those that count, by names that say whose they are. */
const lastFigures = (results: Readonly<Record<string, readonly Measurement[]>>): Figure[] =>
  Object.entries(results).flatMap(([name, measurements]) => measurements.flatMap(({ attempts }) => attempts.at(-1)?.figures ?? []).map((figure) => ({ ...figure, name: `${name}: ${figure.name}` })))

const { names, json, svg, mistake } = readArguments(process.argv.slice(2), Object.keys(benchmarks))

if (mistake !== undefined) {
  console.error(mistake)
  process.exitCode = 2
} else {
  const report = new Report()
  const begin = environment()
  report.note(describeEnvironment(begin))
  const results: Record<string, Measurement[]> = {}
  for (const name of names) {
    const benchmark = benchmarks[name]
    try {
      if (benchmark) results[name] = await runBenchmark(name, benchmark, report)
    } catch (error) {
      report.fail(name, error instanceof Error ? error.message : String(error))
    }
  }
  if (json !== undefined) await writeFile(json, `${JSON.stringify({ environment: begin, loadAtEnd: environment().load, results }, undefined, 2)}\n`)
  if (svg !== undefined) await writeFile(svg, plot(describeEnvironment(begin), lastFigures(results)))
  console.log(report.total())
  process.exitCode = report.failed === 0 ? 0 : 1
}
