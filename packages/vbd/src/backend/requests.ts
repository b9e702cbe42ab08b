/**
 * Requests that a guest has sent and not been answered, as columns of typed arrays: no object per
 * request. Rows are reused last in, first out, so that a shallow queue stays in few cache lines.
 *
 * Where the store takes batches, a row is the job with its number, and what they have in common is
 * said once.
 */
import { MAX_SEGMENTS } from '../nodes.ts'
import type { StoreJobs } from '@xenkit/block-store'

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
  /** First byte on the disk; exact, since it is below 2^52 once the request has been checked. */
  readonly position: Float64Array
  /** Bytes of data, or that a discard gives up: 0 for a flush without any. */
  readonly bytes: Float64Array
  readonly segmentCount: Uint32Array
  /** Columns of `row * MAX_SEGMENTS + segment`: page of the guest's, and where in it. */
  readonly gref: Uint32Array
  readonly pageOffset: Uint16Array
  readonly length: Uint32Array
  /** Where in memory the data of a segment is, while a data path says so. */
  readonly offset: Uint32Array

  readonly #free: Uint16Array
  #freeCount: number

  /** @param jobs of the store's batch, as many as rows, of MAX_SEGMENTS pieces */
  constructor(rows: number, jobs?: StoreJobs) {
    const segments = rows * MAX_SEGMENTS
    this.rows = rows
    this.idLow = new Uint32Array(rows)
    this.idHigh = new Uint32Array(rows)
    // BLKIF_OP.READ and WRITE are 0 and 1, as a job has it; others are no jobs.
    this.operation = jobs?.operation ?? new Uint8Array(rows)
    this.status = new Int8Array(rows)
    this.indirect = new Uint8Array(rows)
    this.secure = new Uint8Array(rows)
    this.position = jobs?.position ?? new Float64Array(rows)
    this.bytes = new Float64Array(rows)
    this.segmentCount = jobs?.count ?? new Uint32Array(rows)
    this.gref = new Uint32Array(segments)
    this.pageOffset = new Uint16Array(segments)
    this.length = jobs?.bytes ?? new Uint32Array(segments)
    this.offset = jobs?.offset ?? new Uint32Array(segments)
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

  /** First sector on the disk. */
  sector(row: number): number {
    return (this.position[row] ?? 0) / 512
  }

  /** Sector behind the request's last one. */
  end(row: number): number {
    return ((this.position[row] ?? 0) + (this.bytes[row] ?? 0)) / 512
  }
}
