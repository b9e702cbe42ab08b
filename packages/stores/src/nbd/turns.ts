/**
 * Work that has to be alone: one piece at a time, and each only when nothing else goes on any more.
 */
export class Turns {
  readonly #isQuiet: () => boolean
  readonly #onFree: () => void
  #last: Promise<unknown> = Promise.resolve()
  #wanted = 0
  #begin: (() => void) | undefined

  /**
   * @param isQuiet nothing else goes on; when that may have become so, `look` has to be called
   * @param onFree called when nobody wants a turn any more
   */
  constructor(isQuiet: () => boolean, onFree: () => void) {
    this.#isQuiet = isQuiet
    this.#onFree = onFree
  }

  /** Somebody has a turn, or waits for one: nothing else may be begun. */
  get wanted(): boolean {
    return this.#wanted > 0
  }

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
