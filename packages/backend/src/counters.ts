/**
 * Counters of one device, counted by several threads. Each thread has memory of its own, and the
 * server's thread adds the numbers up: reading costs the other threads nothing. Numbers never tear:
 * x86_64 and arm64 load and store 8 aligned bytes at once.
 */
export class Counters {
  /** Memory of the server's own thread. */
  readonly own: Float64Array
  readonly #ofThreads = new Map<object, Float64Array>()

  /** @param length how many numbers each thread has */
  constructor(length: number) {
    this.own = new Float64Array(length)
  }

  /**
   * Shared memory for another thread, to be sent to it. @param thread key: the same one gives the
   * same memory
   */
  of(thread: object): Float64Array {
    const bytes = this.own.length * Float64Array.BYTES_PER_ELEMENT
    const numbers = this.#ofThreads.get(thread) ?? new Float64Array(new SharedArrayBuffer(bytes))
    this.#ofThreads.set(thread, numbers)
    return numbers
  }

  /** Sum over all threads of the number at an index, 0..length-1. */
  sum(at: number): number {
    return [this.own, ...this.#ofThreads.values()].reduce(
      (sum, numbers) => sum + (numbers[at] ?? 0),
      0,
    )
  }

  /** Sets a number to 0 for all other threads: a thread that died can't correct its own. */
  clear(at: number): void {
    for (const numbers of this.#ofThreads.values()) numbers[at] = 0
  }
}
