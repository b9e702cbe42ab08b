/** A size that changes while a disk is served, and those who want to hear of it. */
export class Size {
  #sectors: number
  readonly #listeners = new Set<() => void>()

  constructor(sectors: number) {
    this.#sectors = sectors
  }

  get sectors(): number {
    return this.#sectors
  }

  change(sectors: number): void {
    if (sectors === this.#sectors) return
    this.#sectors = sectors
    for (const listener of this.#listeners) listener()
  }

  readonly onResize = (listener: () => void): Disposable => {
    // A function of its own, so that a listener that is given twice ends twice.
    const own = (): void => listener()
    this.#listeners.add(own)
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) }
  }
}
