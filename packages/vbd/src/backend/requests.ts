/**
 * Requests that a guest has sent and not been answered, as columns of typed arrays: no object per
 * request. Rows are reused last in, first out, so that a shallow queue stays in few cache lines.
 */
import { MAX_SEGMENTS } from '../nodes.ts'

export class Requests {
  readonly rows: number
  /** Opaque to the backend: the two halves of the guest's u64 go back as they came. */
  readonly idLow: Uint32Array
  readonly idHigh: Uint32Array
  /** What is to be done, and what the answer names: of an indirect request its `indirect_op`. */
  readonly operation: Uint8Array
  /** A BLKIF_RSP code: why it may not run, then how it went. */
  readonly status: Int8Array
  /** 1 where the segments came from pages of their own. */
  readonly indirect: Uint8Array
  /** 1 for a discard that may leave no copy. */
  readonly secure: Uint8Array
  /** First sector on the disk; exact, since it is below 2^43 once the request has been checked. */
  readonly sector: Float64Array
  /** Bytes of data, or that a discard gives up: 0 for a flush without any. */
  readonly bytes: Float64Array
  readonly segmentCount: Uint16Array
  /** Columns of `row * MAX_SEGMENTS + segment`. */
  readonly gref: Uint32Array
  readonly offset: Uint16Array
  readonly length: Uint16Array

  readonly #free: Uint16Array
  #freeCount: number

  constructor(rows: number) {
    const segments = rows * MAX_SEGMENTS
    this.rows = rows
    this.idLow = new Uint32Array(rows)
    this.idHigh = new Uint32Array(rows)
    this.operation = new Uint8Array(rows)
    this.status = new Int8Array(rows)
    this.indirect = new Uint8Array(rows)
    this.secure = new Uint8Array(rows)
    this.sector = new Float64Array(rows)
    this.bytes = new Float64Array(rows)
    this.segmentCount = new Uint16Array(rows)
    this.gref = new Uint32Array(segments)
    this.offset = new Uint16Array(segments)
    this.length = new Uint16Array(segments)
    this.#free = Uint16Array.from({ length: rows }, (_, i) => rows - 1 - i)
    this.#freeCount = rows
  }

  get freeCount(): number {
    return this.#freeCount
  }

  /** Takes a free row. The caller has looked at `freeCount`. */
  take(): number {
    return this.#free[--this.#freeCount] ?? 0
  }

  release(row: number): void {
    this.#free[this.#freeCount++] = row
  }

  /** Sector behind the request's last one. */
  end(row: number): number {
    return (this.sector[row] ?? 0) + (this.bytes[row] ?? 0) / 512
  }
}
