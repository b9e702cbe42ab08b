/**
 * A table of a ring's messages in flight, one row each. A row's state is one column, which this
 * file alone writes:
 *
 *     free > taken > waiting > started > done > free
 *
 * A refused row goes from waiting to done. The device's columns, which describe the messages,
 * follow the state in the same buffer. Free rows are reused last in, first out, so a shallow queue
 * stays in few cache lines.
 */

/** States of a row, in the order in which it passes them. */
export const RowState = {
  FREE: 0,
  /** Being decoded. */
  TAKEN: 1,
  /** Decoded, and waiting to be started or refused, in ring order. */
  WAITING: 2,
  /** Submitted, to a store say, and not complete. */
  STARTED: 3,
  /** Complete or refused, and not answered. */
  DONE: 4,
} as const

/** A row's state: a value of the constant `RowState`. */
export type RowState = (typeof RowState)[keyof typeof RowState]

const { FREE, TAKEN, WAITING, STARTED, DONE } = RowState

/** Constructor of a typed array. */
export interface ColumnType<T> {
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T
  readonly BYTES_PER_ELEMENT: number
}

/** Alignment of a column, in bytes: the size of the largest element. */
const ALIGNMENT = 8

/**
 * A table of a ring's messages. A device extends it by columns of its own. A change of state throws
 * a RangeError if the row isn't in the expected state.
 */
export class RowTable {
  /** Number of rows. */
  readonly rows: number
  /** All columns, one after another. */
  readonly buffer: ArrayBuffer
  /** The `RowState` of each row: read it, don't write it. */
  readonly state: Uint8Array
  /** Done rows in order of completion: the first `done` elements. */
  readonly doneRows: Uint16Array
  /** Number of rows in each state. */
  readonly #count = new Uint16Array(Object.keys(RowState).length)
  readonly #free: Uint16Array
  /** Waiting rows, as a ring buffer of row numbers. The oldest is at index `#oldest`. */
  readonly #waiting: Uint16Array
  #oldest = 0
  #columnsEnd = 0

  /**
   * @param rows 1..65535
   * @param bytesPerRow size of the device's columns for each row, in bytes; default 0
   */
  constructor(rows: number, bytesPerRow = 0) {
    this.rows = rows
    // Alignment wastes up to 7 bytes a column; no device has more than 32 columns.
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

  /** Queues a taken row behind all waiting ones. */
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

  /** Refuses the oldest waiting row: it becomes done without having been started. */
  refuse(row: number): void {
    this.#shift()
    this.#finish(row, WAITING)
  }

  /**
   * Completes a started row. @throws RangeError if it isn't started, because it was completed
   * before, say
   */
  complete(row: number): void {
    this.#finish(row, STARTED)
  }

  /** Frees a done row. The caller has to free all of `doneRows` before it completes others. */
  release(row: number): void {
    this.#free[this.free] = row
    this.#move(row, DONE, FREE)
  }

  /**
   * Adds a column, in the constructor of a device's table. @param perRow elements of each row,
   * default 1
   */
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
