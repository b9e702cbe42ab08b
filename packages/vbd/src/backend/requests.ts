/** A ring's requests in flight as columns of a `RowTable`: no object is allocated per request. */
import { RowTable } from '@xenkit/backend'
import { MAX_SEGMENTS } from '../nodes.ts'

/** Bytes of a segment: gref 4, pageOffset 2, length 4, offset 4. */
const SEGMENT_BYTES = 14

/**
 * Bytes of a row: id 8, operation 1, status 1, indirect 1, secure 1, position 8, bytes 8,
 * segmentCount 4, and its segments.
 */
const ROW_BYTES = 32 + MAX_SEGMENTS * SEGMENT_BYTES

/** A table of block requests, a row for each. */
export class Requests extends RowTable {
  /** The guest's 64-bit id in two halves. Opaque: the response returns it unchanged. */
  readonly idLow = this.column(Uint32Array)
  readonly idHigh = this.column(Uint32Array)
  /** A BLKIF_OP, which the response repeats. For an indirect request: its `indirect_op`. */
  readonly operation = this.column(Uint8Array)
  /** A BLKIF_RSP code: OKAY until the request is refused or fails. */
  readonly status = this.column(Int8Array)
  /** 1 if the segments came in a page of their own (BLKIF_OP_INDIRECT). */
  readonly indirect = this.column(Uint8Array)
  /** 1 for a secure discard: no copy of the data may remain. */
  readonly secure = this.column(Uint8Array)
  /** Byte offset on the disk. Exact: below 2^52 once the request has been checked. */
  readonly position = this.column(Float64Array)
  /** Length of the data, or of the range to discard, in bytes. 0 for a flush without data. */
  readonly bytes = this.column(Float64Array)
  readonly segmentCount = this.column(Uint32Array)
  /**
   * The columns of segments have index `row * MAX_SEGMENTS + segment`. Here: the grant reference of
   * the segment's page, then the offset and length of its data in that page, in bytes.
   */
  readonly gref = this.column(Uint32Array, MAX_SEGMENTS)
  readonly pageOffset = this.column(Uint16Array, MAX_SEGMENTS)
  readonly length = this.column(Uint32Array, MAX_SEGMENTS)
  /** Byte offset in the arena of the segment's data, while a data path holds it there. */
  readonly offset = this.column(Uint32Array, MAX_SEGMENTS)

  constructor(rows: number) {
    super(rows, ROW_BYTES)
  }

  /** First sector of the request, in units of 512 bytes. */
  sector(row: number): number {
    return (this.position[row] ?? 0) / 512
  }

  /** First sector after the request. */
  end(row: number): number {
    return ((this.position[row] ?? 0) + (this.bytes[row] ?? 0)) / 512
  }
}
