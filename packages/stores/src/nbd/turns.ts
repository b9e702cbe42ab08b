/**
 * Runs work exclusively: one piece at a time, and each only while nothing else is in flight.
 */
export class Turns {
  readonly #isQuiet: () => boolean
  readonly #onFree: () => void
  #last: Promise<unknown> = Promise.resolve()
  #wanted = 0
  #begin: (() => void) | undefined

  /**
   * @param isQuiet whether nothing is in flight; call `look` when that may have become true
   * @param onFree called when the last piece of exclusive work has ended
   */
  constructor(isQuiet: () => boolean, onFree: () => void) {
    this.#isQuiet = isQuiet
    this.#onFree = onFree
  }

  /** Whether exclusive work runs or waits. If so, don't start anything else. */
  get wanted(): boolean {
    return this.#wanted > 0
  }

  /** Runs `work` exclusively, after all earlier work. */
  take<T>(work: () => Promise<T>): Promise<T> {
    this.#wanted++
    const turn = this.#last.then(() => this.#quiet()).then(work)
    this.#last = turn
      .catch(() => {})
      .then(() => {
        if (--this.#wanted === 0) this.#onFree()
      })
    return turn
  }

  /** Starts the next piece of work if nothing is in flight. */
  look(): void {
    if (!this.#begin || !this.#isQuiet()) return
    this.#begin()
    this.#begin = undefined
  }

  #quiet(): Promise<void> {
    return new Promise((resolve) => {
      this.#begin = resolve
      this.look()
    })
  }
}
