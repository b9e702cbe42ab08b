/**
 * A random generator, mulberry32, whose state is a word of the machine. All threads draw from one
 * sequence, under the machine lock.
 */
export class SeededRandom {
  readonly #words: Int32Array
  readonly #index: number

  constructor(words: Int32Array, index: number) {
    this.#words = words
    this.#index = index
  }

  /** Returns an integer 0..bound-1. */
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

  /** Returns the items in random order. */
  shuffled<T>(items: readonly T[]): T[] {
    const left = [...items]
    return items.flatMap(() => left.splice(this.below(left.length), 1))
  }
}
