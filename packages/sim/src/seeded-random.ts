/**
 * mulberry32, its state in a word of the machine: one sequence for all threads, drawn under the
 * machine lock.
 */
export class SeededRandom {
  readonly #words: Int32Array
  readonly #index: number

  constructor(words: Int32Array, index: number) {
    this.#words = words
    this.#index = index
  }

  /** An integer 0..bound-1. */
  below(bound: number): number {
    const state = (Atomics.load(this.#words, this.#index) + 0x6d2b_79f5) | 0
    Atomics.store(this.#words, this.#index, state)
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound
  }

  oneIn(chances: number): boolean {
    return this.below(chances) === 0
  }

  /** The items in another order. */
  shuffled<T>(items: readonly T[]): T[] {
    const left = [...items]
    return items.flatMap(() => left.splice(this.below(left.length), 1))
  }
}
