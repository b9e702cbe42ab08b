/**
 * Keeps calls apart that touch the same blocks. Guests keep overlapping requests apart by
 * themselves; a store that works in blocks larger than a sector has to do it for those that merely
 * share a block.
 */
interface Held {
  readonly first: number
  readonly last: number
  readonly shared: boolean
  readonly ended: Promise<unknown>
}

export class RangeLocks {
  readonly #held = new Set<Held>()

  /**
   * Runs `work` once every earlier one on these blocks has ended; `shared` ones don't wait for each
   * other.
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

  /** Runs `work` alone. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.run({ first: 0, last: Infinity, shared: false }, work)
  }
}
