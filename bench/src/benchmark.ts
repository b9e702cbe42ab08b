/** What a benchmark is and what it is given. */
import type { Figure } from '@xenkit/lab'

export interface Benchmark {
  /** What it compares, in one line. */
  readonly title: string
  run(bench: Bench): Promise<void>
}

export interface Bench {
  /** A folder for what it builds and its sockets, removed afterwards. */
  readonly directory: string
  /** Two processors: one for what serves, one for who asks. */
  readonly cpus: { readonly server: number; readonly client: number }
  /**
   * Measures, and judges the figures by their gates. When one isn't met all of it is measured
   * again, and what comes out then counts.
   * @throws what `work` throws
   */
  measure(what: string, work: () => Promise<readonly Figure[]>): Promise<void>
}
