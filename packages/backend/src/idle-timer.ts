/**
 * Calls back when something hasn't been used for a while. Costs a comparison per use, and at most
 * one timer per period. No timer runs once it is idle.
 */
export class IdleTimer {
  readonly #periodMs: number
  readonly #idle: () => void
  #used = false
  #timer: ReturnType<typeof setTimeout> | undefined

  /**
   * @param periodMs in milliseconds
   * @param idle called one to two periods after the last use
   */
  constructor(periodMs: number, idle: () => void) {
    this.#periodMs = periodMs
    this.#idle = idle
  }

  use(): void {
    this.#used = true
    this.#timer ??= this.#start()
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  #start(): ReturnType<typeof setTimeout> {
    this.#used = false
    // The timer doesn't keep the process alive.
    return setTimeout(() => this.#passed(), this.#periodMs).unref()
  }

  #passed(): void {
    this.#timer = undefined
    if (this.#used) this.#timer = this.#start()
    else this.#idle()
  }
}
