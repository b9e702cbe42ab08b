/**
 * `npm run bench -- NAME... [--json FILE]` runs the named benchmarks. Without a name it runs all of
 * them and draws docs/bench/bench.svg.
 */
import { writeFile } from 'node:fs/promises'
import { Report, savePicture } from '@xenkit/lab'
import { benchmarks } from '../benchmarks/index.ts'
import { readArguments } from './arguments.ts'
import { describeEnvironment, environment } from './environment.ts'
import { pictured } from './pictured.ts'
import { type Measurement, runBenchmark } from './run-benchmark.ts'

const { names, json, mistake } = readArguments(process.argv.slice(2), Object.keys(benchmarks))

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
  if (json !== undefined) {
    await writeFile(
      json,
      `${JSON.stringify({ environment: begin, loadAtEnd: environment().load, results }, undefined, 2)}\n`,
    )
  }
  const figures = pictured(Object.keys(benchmarks), results)
  if (figures) await savePicture('bench', { heading: describeEnvironment(begin), figures })
  console.log(report.total())
  process.exitCode = report.failed === 0 ? 0 : 1
}
