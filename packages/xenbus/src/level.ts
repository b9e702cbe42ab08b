/** A flag with one waiter: `raise` wakes it, or is remembered for the next `wait`. */
export class Level {
  #raised = false
  #wake: (() => void) | undefined

  raise(): void {
    this.#raised = true
    this.#wake?.()
  }

  /** Resolves once the flag is raised, and lowers it. */
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
