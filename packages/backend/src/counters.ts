/**
 * Numbers that several threads count for one device: each in memory of its own, which the server's
 * thread adds up. Reading costs the others nothing. A number is stored and loaded whole: x86_64 and
 * arm64 do so with 8 aligned bytes.
 */
export class Counters {
  /** The server's own thread counts here. */
  readonly own: Float64Array
  readonly #ofThreads = new Map<object, Float64Array>()

  /** @param length numbers of each thread */
  constructor(length: number) {
    this.own = new Float64Array(length)
  }

  /** Memory for another thread to count in, which it can be sent. */
  of(thread: object): Float64Array {
    const bytes = this.own.length * Float64Array.BYTES_PER_ELEMENT
    const numbers = this.#ofThreads.get(thread) ?? new Float64Array(new SharedArrayBuffer(bytes))
    this.#ofThreads.set(thread, numbers)
    return numbers
  }

  /** What all threads have counted at an index. */
  sum(at: number): number {
    return [this.own, ...this.#ofThreads.values()].reduce(
      (sum, numbers) => sum + (numbers[at] ?? 0),
      0,
    )
  }

  /** Sets a number of the other threads' to 0: a thread that died can't count what it lost. */
  clear(at: number): void {
    for (const numbers of this.#ofThreads.values()) numbers[at] = 0
  }
}
