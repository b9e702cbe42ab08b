/**
 * Locks on ranges of blocks. Guests don't overlap requests that depend on each other. But requests
 * for different sectors may share a block, and a store that works in blocks has to order those.
 */
interface Held {
  readonly first: number
  readonly last: number
  readonly shared: boolean
  readonly ended: Promise<unknown>
}

/** Runs calls on the same blocks one after the other, and all others concurrently. */
export class RangeLocks {
  readonly #held = new Set<Held>()

  /**
   * Runs `work` once all earlier work on these blocks has settled. Shared work doesn't wait for
   * other shared work. Both ends of the range are inclusive.
   */
  run<T>(
    o: { readonly first: number; readonly last: number; readonly shared: boolean },
    work: () => Promise<T>,
  ): Promise<T> {
    const before = [...this.#held]
      .filter((held) => held.first <= o.last && o.first <= held.last && !(held.shared && o.shared))
      .map(({ ended }) => ended)
    const running = before.length === 0 ? work() : Promise.all(before).then(work)
    const held: Held = {
      ...o,
      ended: running.then(
        () => this.#held.delete(held),
        () => this.#held.delete(held),
      ),
    }
    this.#held.add(held)
    return running
  }

  /** Runs `work` alone: after all earlier work, before all later work. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.run({ first: 0, last: Infinity, shared: false }, work)
  }
}
