/** Rows in the order in which they came. */
export class RowQueue {
  readonly #rows: Uint16Array
  /** Place of the oldest. */
  #first = 0
  #count = 0

  /** @param capacity most rows at a time */
  constructor(capacity: number) {
    this.#rows = new Uint16Array(capacity)
  }

  isEmpty(): boolean {
    return this.#count === 0
  }

  /** The oldest row, undefined if there is none. */
  first(): number | undefined {
    return this.#count === 0 ? undefined : this.#rows[this.#first]
  }

  /** Lets go of the oldest row. There is one. */
  shift(): void {
    this.#first = this.#wrapped(this.#first + 1)
    this.#count--
  }

  /** There is room. */
  push(row: number): void {
    this.#rows[this.#wrapped(this.#first + this.#count++)] = row
  }

  #wrapped(at: number): number {
    return at < this.#rows.length ? at : at - this.#rows.length
  }
}
