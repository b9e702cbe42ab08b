/** The interface of a scenario, and the environment it gets. */
import type { Programs } from './bundle.ts'
import type { Dom0 } from './dom0/dom0.ts'
import type { Figure } from './figure.ts'
import type { Clock } from './qemu.ts'
import type { Stack, StackName } from './stack.ts'

export interface Scenario {
  /** The feature or claim that the scenario shows, in one line. */
  readonly title: string
  /** Programs that the scenario runs in dom0. */
  readonly programs: Programs
  /**
   * Stacks on which the scenario runs, unless the command line names others. Each run has its own
   * machine. Default: `debian12-pv`.
   */
  readonly stacks?: readonly StackName[]
  /**
   * Name, without `.svg`, of the picture in docs/bench that shows its figures. A run on the
   * scenario's own stacks redraws it.
   */
  readonly picture?: string
  run(lab: Lab): Promise<void>
}

export interface Lab {
  readonly stack: Stack
  /**
   * Starts Xen and waits for dom0. The machine is stopped when the scenario ends. The default clock
   * is `wall`.
   */
  boot(o?: { readonly clock?: Clock }): Promise<Dom0>
  /**
   * Runs a check, which fails if `work` throws or a guest's kernel fails in the meantime. The first
   * failure ends the scenario, because later checks build on earlier ones.
   */
  check<T>(what: string, work: () => Promise<T>): Promise<T>
  /**
   * Runs a check on which no other builds, so that its failure doesn't end the scenario. The text
   * that `work` returns is printed after `what`.
   */
  row(what: string, work: () => Promise<string>): Promise<void>
  /** Reports the result of a check that a program in dom0 made. */
  report(what: string, passed: boolean): void
  /** Reports measured figures: one with a gate counts as a check. */
  figures(figures: readonly Figure[]): void
  /** Prints a line that isn't the result of a check. */
  note(text: string): void
}
