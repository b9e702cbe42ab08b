/** The interface of a benchmark, and the environment it gets. */
import type { Figure } from '@xenkit/lab'

export interface Benchmark {
  /** The comparison that the benchmark makes, in one line. */
  readonly title: string
  run(bench: Bench): Promise<void>
}

export interface Bench {
  /** A folder for built programs and sockets, removed afterwards. */
  readonly directory: string
  /** Two processors: one for the server, one for the client. */
  readonly cpus: { readonly server: number; readonly client: number }
  /**
   * Runs `work`, and checks its figures against their gates. If one fails, it runs `work` again,
   * and the second result counts.
   * @throws what `work` throws
   */
  measure(what: string, work: () => Promise<readonly Figure[]>): Promise<void>
}
