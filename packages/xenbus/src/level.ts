/** Wakes the one that waits. What happens while nobody waits is remembered, once. */
export class Level {
  #raised = false
  #wake: (() => void) | undefined

  raise(): void {
    this.#raised = true
    this.#wake?.()
  }

  /** Resolves when it is raised, or was since the last `wait`. */
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
