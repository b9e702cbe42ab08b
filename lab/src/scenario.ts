/** What a scenario is and what it is given. */
import type { Programs } from './bundle.ts'
import type { Dom0 } from './dom0/dom0.ts'
import type { Figure } from './figure.ts'
import type { Clock } from './qemu.ts'
import type { Stack, StackName } from './stack.ts'

export interface Scenario {
  /** What it shows, in one line. */
  readonly title: string
  /** What it runs in dom0. */
  readonly programs: Programs
  /**
   * What it runs on unless told otherwise, each with a machine of its own: `debian12-pv` if this is
   * left out.
   */
  readonly stacks?: readonly StackName[]
  /**
   * The picture of docs/bench that shows its figures, without `.svg`: drawn by each run on its own
   * stacks.
   */
  readonly picture?: string
  run(lab: Lab): Promise<void>
}

export interface Lab {
  readonly stack: Stack
  /**
   * Starts Xen and waits for dom0. The machine ends with the scenario. The clock is `wall` unless
   * told.
   */
  boot(o?: { readonly clock?: Clock }): Promise<Dom0>
  /**
   * One thing that is shown: `work` returns, or throws what is wrong; it also fails when the kernel
   * of a guest does meanwhile. The first failure ends the scenario, since what follows builds on
   * it.
   */
  check<T>(what: string, work: () => Promise<T>): Promise<T>
  /**
   * A check that nothing else builds on: the scenario goes on when it fails. `work` returns what it
   * found, which is printed after `what`.
   */
  row(what: string, work: () => Promise<string>): Promise<void>
  /** Reports a check that was made elsewhere. */
  report(what: string, passed: boolean): void
  /** Reports what was measured: a figure with a gate is a check. */
  figures(figures: readonly Figure[]): void
  /** Prints a line that is no check. */
  note(text: string): void
}
