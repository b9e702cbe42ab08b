/** A disk's size that may change, and the listeners to its changes. */
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
    // Each call wraps its listener, so that one added twice is called twice and removed separately.
    const own = (): void => listener()
    this.#listeners.add(own)
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) }
  }
}
