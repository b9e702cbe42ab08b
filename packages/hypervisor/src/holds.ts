/** Counts the holds on an arena, for adapters. See `Arena.hold`. */
export class Holds {
  readonly #onEnd: () => void
  #count = 0

  /** @param onEnd called each time the last hold ends */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
  }

  /** Whether any hold is left. */
  get exist(): boolean {
    return this.#count > 0
  }

  /** Takes one hold; disposing of the result ends it. Idempotent. */
  take(): Disposable {
    let held = true
    this.#count++
    return {
      [Symbol.dispose]: () => {
        if (!held) return
        held = false
        if (--this.#count === 0) this.#onEnd()
      },
    }
  }
}
