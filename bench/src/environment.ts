/**
 * The environment of a run (date, processor, versions, load), without which its figures mean
 * little.
 */
import { cpus, loadavg, release } from 'node:os'

export interface Environment {
  readonly date: string
  readonly node: string
  readonly kernel: string
  readonly processor: string
  readonly processors: number
  /**
   * Load average over the last minute: processes that ran or were ready to run. The benchmark
   * itself causes about two.
   */
  readonly load: number
}

export const environment = (): Environment => ({
  date: new Date().toISOString(),
  node: process.versions.node,
  kernel: release(),
  processor: cpus()[0]?.model ?? 'unknown',
  processors: cpus().length,
  load: loadavg()[0] ?? Number.NaN,
})

/** Describes the environment in one line. */
export const describeEnvironment = ({
  date,
  node,
  kernel,
  processor,
  processors,
  load,
}: Environment): string =>
  `${date}: Node ${node}, Linux ${kernel}, ${processors} x ${processor}, load ${load.toFixed(1)}`
