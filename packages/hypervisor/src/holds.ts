/** For adapters: who holds an arena. See `Arena.hold`. */
export class Holds {
  readonly #onEnd: () => void
  #count = 0

  /** @param onEnd called each time that the last hold ends */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
  }

  get exist(): boolean {
    return this.#count > 0
  }

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
