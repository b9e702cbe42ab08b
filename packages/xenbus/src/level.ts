/** A flag with one waiter: `raise` wakes the waiter, or makes the next `wait` return at once. */
export class Level {
  #raised = false
  #wake: (() => void) | undefined

  raise(): void {
    this.#raised = true
    this.#wake?.()
  }

  /** Waits until the flag is raised, then lowers it. */
  async wait(): Promise<void> {
    if (!this.#raised) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    this.#raised = false
    this.#wake = undefined
  }
}
