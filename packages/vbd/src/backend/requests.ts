/** Requests that a guest has sent and not been answered: see `RowTable`. No object per request. */
import { RowTable } from '@xenkit/backend'
import { MAX_SEGMENTS } from '../nodes.ts'

/** Of a segment: gref 4, pageOffset 2, length 4, offset 4. */
const SEGMENT_BYTES = 14

/**
 * Of a row: id 8, operation 1, status 1, indirect 1, secure 1, position 8, bytes 8, segmentCount 4,
 * and its segments.
 */
const ROW_BYTES = 32 + MAX_SEGMENTS * SEGMENT_BYTES

export class Requests extends RowTable {
  /** Opaque to the backend: the two halves of the guest's u64 go back as they came. */
  readonly idLow = this.column(Uint32Array)
  readonly idHigh = this.column(Uint32Array)
  /** What is to be done, and what the answer names: of an indirect request its `indirect_op`. */
  readonly operation = this.column(Uint8Array)
  /** A BLKIF_RSP code: why the request may not run, then how it went. */
  readonly status = this.column(Int8Array)
  /** 1 where the segments came from pages of their own. */
  readonly indirect = this.column(Uint8Array)
  /** 1 for a discard that may leave no copy. */
  readonly secure = this.column(Uint8Array)
  /** First byte on the disk; exact, since it is below 2^52 once the request has been checked. */
  readonly position = this.column(Float64Array)
  /** Bytes of data, or that a discard gives up: 0 for a flush without any. */
  readonly bytes = this.column(Float64Array)
  readonly segmentCount = this.column(Uint32Array)
  /** Columns of `row * MAX_SEGMENTS + segment`: page of the guest's, and where in it. */
  readonly gref = this.column(Uint32Array, MAX_SEGMENTS)
  readonly pageOffset = this.column(Uint16Array, MAX_SEGMENTS)
  readonly length = this.column(Uint32Array, MAX_SEGMENTS)
  /** Where in memory the data of a segment is, while a data path says so. */
  readonly offset = this.column(Uint32Array, MAX_SEGMENTS)

  constructor(rows: number) {
    super(rows, ROW_BYTES)
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
