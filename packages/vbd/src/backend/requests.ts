/**
 * Requests that a guest has sent and not been answered, as columns of typed arrays: no object per
 * request. A row owns a fixed piece of the arena for its data, so whoever holds a free row holds its
 * buffer too. Rows are reused last in, first out, so that a shallow queue stays in few cache lines and
 * few resident pages.
 *
 * `decode` looks at a private copy of the slot, once, and everything after it looks at the columns.
 */
import { PAGE_SIZE, type Pages } from '@xenkit/hypervisor'
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, BLKIF_RSP, type BlkifLayout } from '@xenkit/wire'

/** Data of the largest request: 11 segments of a page. */
export const REQUEST_BYTES = BLKIF_MAX_SEGMENTS_PER_REQUEST * PAGE_SIZE

const LAST_SECTOR_OF_PAGE = PAGE_SIZE / 512 - 1

/** What the disk can do, as far as checking a request needs it. */
export interface Limits {
  readonly sectors: number
  readonly writable: boolean
  readonly flush: boolean
}

export class Requests {
  /** Opaque to the backend: the two halves of the guest's u64 go back as they came. */
  readonly idLow: Uint32Array
  readonly idHigh: Uint32Array
  readonly operation: Uint8Array
  readonly status: Int8Array
  /** First sector on the disk; exact, since it is below 2^43 once the request has been checked. */
  readonly sector: Float64Array
  /** Bytes of data: 0 for a flush without any. */
  readonly bytes: Uint32Array
  readonly segmentCount: Uint8Array
  /** Columns of `row * 11 + segment`. */
  readonly gref: Uint32Array
  readonly offset: Uint16Array
  readonly length: Uint16Array

  readonly #buffers: Pages
  readonly #views: readonly Uint8Array[]
  readonly #free: Uint16Array
  #freeCount: number
  readonly #layout: BlkifLayout
  readonly #limits: Limits
  readonly #image8: Uint8Array
  readonly #image32: Uint32Array

  /** @param image the ring's private copies of drained slots */
  constructor(o: { rows: number; buffers: Pages; image: ArrayBuffer; layout: BlkifLayout; limits: Limits }) {
    const { rows } = o
    const segments = rows * BLKIF_MAX_SEGMENTS_PER_REQUEST
    this.idLow = new Uint32Array(rows)
    this.idHigh = new Uint32Array(rows)
    this.operation = new Uint8Array(rows)
    this.status = new Int8Array(rows)
    this.sector = new Float64Array(rows)
    this.bytes = new Uint32Array(rows)
    this.segmentCount = new Uint8Array(rows)
    this.gref = new Uint32Array(segments)
    this.offset = new Uint16Array(segments)
    this.length = new Uint16Array(segments)
    this.#buffers = o.buffers
    this.#views = Array.from({ length: rows }, (_, row) => o.buffers.bytes.subarray(row * REQUEST_BYTES, (row + 1) * REQUEST_BYTES))
    this.#free = Uint16Array.from({ length: rows }, (_, i) => rows - 1 - i)
    this.#freeCount = rows
    this.#layout = o.layout
    this.#limits = o.limits
    this.#image8 = new Uint8Array(o.image)
    this.#image32 = new Uint32Array(o.image)
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

  /** Where the row's data lies in the arena. */
  localOffset(row: number): number {
    return this.#buffers.byteOffset + row * REQUEST_BYTES
  }

  /** The row's data, as long as its request. */
  data(row: number): Uint8Array {
    return this.#views[row]?.subarray(0, this.bytes[row]) ?? new Uint8Array()
  }

  /**
   * Reads the request at `imageOffset` of the image into a row and checks it.
   * @returns BLKIF_RSP.OKAY where it may run, else the status to answer with, which is what Linux's
   *   blkback would: EOPNOTSUPP for what isn't offered, ERROR for what no correct guest sends.
   */
  decode(row: number, imageOffset: number): number {
    const { at } = this.#layout.request
    const image32 = this.#image32
    const operation = this.#image8[imageOffset + at.operation] ?? 0
    this.operation[row] = operation
    this.bytes[row] = 0
    this.segmentCount[row] = 0

    const reads = operation === BLKIF_OP.READ
    const writes = operation === BLKIF_OP.WRITE
    const flushes = operation === BLKIF_OP.FLUSH_DISKCACHE
    // Every operation has its id in the same place, so that a refusal too reaches its request.
    const id = (imageOffset + at.id) >> 2
    this.idLow[row] = image32[id] ?? 0
    this.idHigh[row] = image32[id + 1] ?? 0
    if (!(reads || writes || (flushes && this.#limits.flush))) return BLKIF_RSP.EOPNOTSUPP

    const segmentCount = this.#image8[imageOffset + at.nr_segments] ?? 0
    if (segmentCount > BLKIF_MAX_SEGMENTS_PER_REQUEST || (segmentCount === 0 && !flushes)) return BLKIF_RSP.ERROR
    if (!reads && segmentCount > 0 && !this.#limits.writable) return BLKIF_RSP.ERROR

    const bytes = this.#decodeSegments(row, imageOffset, segmentCount)
    if (bytes === undefined) return BLKIF_RSP.ERROR
    const sectorAt = (imageOffset + at.sector_number) >> 2
    // Rounding of a u64 above 2^53 can't bring it below the limit, so the sum needs no wrap check.
    const sector = (image32[sectorAt] ?? 0) + (image32[sectorAt + 1] ?? 0) * 2 ** 32
    if (bytes > 0 && sector + bytes / 512 > this.#limits.sectors) return BLKIF_RSP.ERROR
    this.sector[row] = sector
    this.bytes[row] = bytes
    this.segmentCount[row] = segmentCount
    return BLKIF_RSP.OKAY
  }

  /** @returns the bytes of all segments, or undefined if one is not within its page. */
  #decodeSegments(row: number, imageOffset: number, count: number): number | undefined {
    const segment = this.#layout.segment
    let bytes = 0
    let at = imageOffset + this.#layout.request.at.seg
    for (let i = row * BLKIF_MAX_SEGMENTS_PER_REQUEST, end = i + count; i < end; i++, at += segment.size) {
      const first = this.#image8[at + segment.at.first_sect] ?? 0
      const last = this.#image8[at + segment.at.last_sect] ?? 0
      if (first > last || last > LAST_SECTOR_OF_PAGE) return undefined
      const length = (last - first + 1) * 512
      this.gref[i] = this.#image32[(at + segment.at.gref) >> 2] ?? 0
      this.offset[i] = first * 512
      this.length[i] = length
      bytes += length
    }
    return bytes
  }
}
