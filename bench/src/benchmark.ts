/** The interface of a benchmark, and the environment that it runs in. */
import type { Figure } from '@xenkit/lab'

export interface Benchmark {
  /** A line that says what the benchmark compares. */
  readonly title: string
  run(bench: Bench): Promise<void>
}

export interface Bench {
  /** A folder for built programs and sockets, removed after the benchmark. */
  readonly directory: string
  /** Two processors: one for the server, one for the client. */
  readonly cpus: { readonly server: number; readonly client: number }
  /**
   * Runs `work`, and checks its figures against their gates (limits). If a figure fails, runs
   * `work` again, and the second result counts.
   * @throws what `work` throws
   */
  measure(what: string, work: () => Promise<readonly Figure[]>): Promise<void>
}
