/** Where figures come from, without which they mean little. */
import { cpus, loadavg, release } from 'node:os'

export interface Environment {
  readonly date: string
  readonly node: string
  readonly kernel: string
  readonly processor: string
  readonly processors: number
  /**
   * Processes that ran or wanted to, on average over the last minute: of a benchmark's own about
   * two.
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

/** In one line. */
export const describeEnvironment = ({
  date,
  node,
  kernel,
  processor,
  processors,
  load,
}: Environment): string =>
  `${date}: Node ${node}, Linux ${kernel}, ${processors} x ${processor}, load ${load.toFixed(1)}`
