/** Counts the holds on an arena, as `Arena.hold` describes them. Adapters use it. */
export class Holds {
  readonly #onEnd: () => void
  #count = 0

  /** @param onEnd called each time the last hold ends */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
  }

  /** Whether any hold on the arena is left. */
  get exist(): boolean {
    return this.#count > 0
  }

  /** Adds a hold on the arena; disposing of the result ends it. Idempotent. */
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
