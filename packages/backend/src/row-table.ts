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
  readonly #freeRows: Uint16Array
  /** Waiting rows, as a ring buffer of row numbers. The oldest is at index `#oldest`. */
  readonly #waitingRows: Uint16Array
  // Separate fields: counting in an array indexed by the state cost a disk 3 % of its rate.
  #free: number
  #waiting = 0
  #started = 0
  #done = 0
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
    this.#waitingRows = new Uint16Array(rows)
    this.#freeRows = Uint16Array.from({ length: rows }, (_, i) => rows - 1 - i)
    this.#free = rows
  }

  /** Number of free rows. */
  get free(): number {
    return this.#free
  }

  /** Number of waiting rows. */
  get waiting(): number {
    return this.#waiting
  }

  /** Number of started rows. */
  get started(): number {
    return this.#started
  }

  /** Number of done rows. */
  get done(): number {
    return this.#done
  }

  /** The oldest waiting row, undefined if none waits. */
  get next(): number | undefined {
    return this.#waiting === 0 ? undefined : this.#waitingRows[this.#oldest]
  }

  /** Takes a free row. @throws RangeError if there is none */
  take(): number {
    const row = this.#freeRows[this.#free - 1] ?? 0
    this.#expect(row, FREE)
    this.state[row] = TAKEN
    this.#free--
    return row
  }

  /** Queues a taken row behind all waiting ones. */
  wait(row: number): void {
    this.#expect(row, TAKEN)
    this.state[row] = WAITING
    const at = this.#oldest + this.#waiting++
    this.#waitingRows[at < this.rows ? at : at - this.rows] = row
  }

  /** Starts the oldest waiting row. */
  start(row: number): void {
    this.#shift(row)
    this.state[row] = STARTED
    this.#started++
  }

  /** Refuses the oldest waiting row: it becomes done without having been started. */
  refuse(row: number): void {
    this.#shift(row)
    this.state[row] = DONE
    this.doneRows[this.#done++] = row
  }

  /**
   * Completes a started row. @throws RangeError if it isn't started, because it was completed
   * before, say
   */
  complete(row: number): void {
    this.#expect(row, STARTED)
    this.state[row] = DONE
    this.doneRows[this.#done++] = row
    this.#started--
  }

  /** Frees all rows that are done. */
  releaseDone(): void {
    for (let i = 0; i < this.#done; i++) {
      const row = this.doneRows[i] ?? 0
      this.state[row] = FREE
      this.#freeRows[this.#free++] = row
    }
    this.#done = 0
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

  #shift(row: number): void {
    this.#expect(row, WAITING)
    this.#oldest = this.#oldest + 1 < this.rows ? this.#oldest + 1 : 0
    this.#waiting--
  }

  #expect(row: number, state: RowState): void {
    if (this.state[row] !== state) this.#refuseMove(row, state)
  }

  #refuseMove(row: number, from: RowState): never {
    const name = (state: number | undefined): string =>
      Object.keys(RowState)[state ?? -1]?.toLowerCase() ?? 'no row'
    throw new RangeError(`row ${row} expected ${name(from)}, is ${name(this.state[row])}`)
  }
}
