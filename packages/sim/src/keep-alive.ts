/** Keeps the process running while it is held, as an open file does. */
export class KeepAlive {
  #held = 0
  #timer: ReturnType<typeof setInterval> | undefined

  hold(): void {
    if (this.#held++ === 0) this.#timer = setInterval(() => {}, 2 ** 31 - 1)
  }

  release(): void {
    if (--this.#held === 0) clearInterval(this.#timer)
  }
}
