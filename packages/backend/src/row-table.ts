/**
 * Messages of a ring that were taken and aren't answered, a row each. A row's life is one column of
 * the table, and this file alone writes it:
 *
 *     free > taken > waiting > started > done > free
 *
 * A row that is refused goes from waiting to done. The columns of a device, which say what a
 * message asks for, lie in the same buffer behind the state. Free rows are reused last in, first
 * out, so that a shallow queue stays in few cache lines.
 */

/** States of a row, in the order of its life. */
export const RowState = {
  FREE: 0,
  /** Being decoded. */
  TAKEN: 1,
  /** Decoded: will be started or refused, in the order of the ring. */
  WAITING: 2,
  /** Given to a store, say, and not completed. */
  STARTED: 3,
  /** Completed or refused, and not answered. */
  DONE: 4,
} as const

export type RowState = (typeof RowState)[keyof typeof RowState]

const { FREE, TAKEN, WAITING, STARTED, DONE } = RowState

/** A typed array's constructor. */
export interface ColumnType<T> {
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T
  readonly BYTES_PER_ELEMENT: number
}

/** A column begins at a multiple of this, in bytes: the largest element's size. */
const ALIGNMENT = 8

/**
 * Rows of a ring's messages. A device's table extends it by columns of its own. A move that a row
 * can't make, since it is in another state, throws a RangeError.
 */
export class RowTable {
  /** Number of rows. */
  readonly rows: number
  /** All columns, one behind the other. */
  readonly buffer: ArrayBuffer
  /** The `RowState` of each row: to be read. */
  readonly state: Uint8Array
  /** Rows that are done, in the order in which they were: the first `done` elements. */
  readonly doneRows: Uint16Array
  /** Rows by state. */
  readonly #count = new Uint16Array(Object.keys(RowState).length)
  readonly #free: Uint16Array
  /** Waiting rows: a ring of row numbers, of which the oldest is at `#oldest`. */
  readonly #waiting: Uint16Array
  #oldest = 0
  #columnsEnd = 0

  /**
   * @param rows 1..65535
   * @param bytesPerRow of the device's columns, default 0
   */
  constructor(rows: number, bytesPerRow = 0) {
    this.rows = rows
    // Up to 7 bytes go between two columns; no device has more than 32.
    this.buffer = new ArrayBuffer(rows * (1 + bytesPerRow) + 32 * ALIGNMENT)
    this.state = this.column(Uint8Array)
    this.doneRows = new Uint16Array(rows)
    this.#waiting = new Uint16Array(rows)
    this.#free = Uint16Array.from({ length: rows }, (_, i) => rows - 1 - i)
    this.#count[FREE] = rows
  }

  get free(): number {
    return this.#count[FREE] ?? 0
  }

  get waiting(): number {
    return this.#count[WAITING] ?? 0
  }

  get started(): number {
    return this.#count[STARTED] ?? 0
  }

  get done(): number {
    return this.#count[DONE] ?? 0
  }

  /** The oldest waiting row, undefined if none waits. */
  get next(): number | undefined {
    return this.waiting === 0 ? undefined : this.#waiting[this.#oldest]
  }

  /** Takes a free row. @throws RangeError if there is none */
  take(): number {
    const row = this.#free[this.free - 1] ?? 0
    this.#move(row, FREE, TAKEN)
    return row
  }

  /** Puts a taken row behind all that wait. */
  wait(row: number): void {
    const at = this.#oldest + this.waiting
    this.#waiting[at < this.rows ? at : at - this.rows] = row
    this.#move(row, TAKEN, WAITING)
  }

  /** Starts the oldest waiting row. */
  start(row: number): void {
    this.#shift()
    this.#move(row, WAITING, STARTED)
  }

  /** Refuses the oldest waiting row: it is done, and was never started. */
  refuse(row: number): void {
    this.#shift()
    this.#finish(row, WAITING)
  }

  /** Completes a started row. @throws RangeError if it isn't started: it was completed before */
  complete(row: number): void {
    this.#finish(row, STARTED)
  }

  /** Frees a row that is done. The caller frees all of `doneRows`, then completes others. */
  release(row: number): void {
    this.#free[this.free] = row
    this.#move(row, DONE, FREE)
  }

  /** For the constructor of a device's table. @param perRow elements of each row, default 1 */
  protected column<T>(type: ColumnType<T>, perRow = 1): T {
    const at = Math.ceil(this.#columnsEnd / ALIGNMENT) * ALIGNMENT
    const length = this.rows * perRow
    this.#columnsEnd = at + length * type.BYTES_PER_ELEMENT
    return new type(this.buffer, at, length)
  }

  #shift(): void {
    this.#oldest = this.#oldest + 1 < this.rows ? this.#oldest + 1 : 0
  }

  #finish(row: number, from: RowState): void {
    const at = this.done
    this.#move(row, from, DONE)
    this.doneRows[at] = row
  }

  #move(row: number, from: RowState, to: RowState): void {
    if (this.state[row] !== from) this.#refuseMove(row, from)
    this.state[row] = to
    this.#count[from] = (this.#count[from] ?? 0) - 1
    this.#count[to] = (this.#count[to] ?? 0) + 1
  }

  #refuseMove(row: number, from: RowState): never {
    const name = (state: number | undefined): string =>
      Object.keys(RowState)[state ?? -1]?.toLowerCase() ?? 'no row'
    throw new RangeError(`row ${row} expected ${name(from)}, is ${name(this.state[row])}`)
  }
}
