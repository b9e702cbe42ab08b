/**
 * Records of 32-bit words in the machine's shared state. Access is atomic: records are written
 * under the machine lock, but some words are read or waited on without it.
 */
/** A table of records with named fields. */
export class Table<Field extends string> {
  readonly rows: number
  readonly #words: Int32Array
  readonly #base: number
  readonly #fields: readonly Field[]
  readonly #at: Readonly<Record<Field, number>>

  /** @param o.base index of the first word in `words` */
  constructor(
    words: Int32Array,
    o: { readonly base: number; readonly rows: number; readonly fields: readonly Field[] },
  ) {
    this.rows = o.rows
    this.#words = words
    this.#base = o.base
    this.#fields = o.fields
    this.#at = Object.fromEntries(o.fields.map((field, index) => [field, index])) as Record<
      Field,
      number
    > // every field has its index
  }

  get(row: number, field: Field): number {
    return Atomics.load(this.#words, this.index(row, field))
  }

  set(row: number, field: Field, value: number): void {
    Atomics.store(this.#words, this.index(row, field), value)
  }

  add(row: number, field: Field, value: number): void {
    Atomics.add(this.#words, this.index(row, field), value)
  }

  /** Sets every field of a row to 0, which marks it free. */
  clear(row: number): void {
    for (const field of this.#fields) this.set(row, field, 0)
  }

  /** Returns the field's index in `words`, for Atomics.wait and the like. */
  index(row: number, field: Field): number {
    return this.#base + row * this.#fields.length + this.#at[field]
  }
}
