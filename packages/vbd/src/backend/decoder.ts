/**
 * Decodes requests from private copies of ring slots, reading each field once, and checks them. A
 * refused request gets the status that Linux's blkback gives: EOPNOTSUPP for operations that aren't
 * offered, ERROR for what no correct guest sends.
 *
 * The segments of an indirect request lie in a page of the guest. The page is copied before it is
 * read (XSA-155). One page suffices for every request: MAX_SEGMENTS segments fill half of it.
 */
import type { GrantCopier } from '@xenkit/grant'
import { type Arena, PAGE_SIZE, type Pages } from '@xenkit/hypervisor'
import {
  BLKIF_DISCARD_SECURE,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_RSP,
  type BlkifLayout,
  blkif,
} from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { Limits } from './limits.ts'
import type { Requests } from './requests.ts'

const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP

const LAST_SECTOR_OF_PAGE = PAGE_SIZE / 512 - 1

/**
 * Segments are read as 32-bit words: the grant reference is one, and the sector numbers are bytes
 * of another. All ABIs share this layout.
 */
const { segment } = blkif.x86_64
const SEGMENT_WORDS = segment.size / 4
const GREF_WORD = segment.at.gref / 4
const SECTORS_WORD = segment.at.first_sect >> 2
const FIRST_SHIFT = 8 * (segment.at.first_sect & 3)
const LAST_SHIFT = 8 * (segment.at.last_sect & 3)

/** Bytes of the most segments that a row may have. */
const COPY_BYTES = MAX_SEGMENTS * segment.size

export interface DecoderParts {
  readonly requests: Requests
  /** The ring's private copies of drained slots. */
  readonly image: ArrayBuffer
  readonly layout: BlkifLayout
  readonly limits: Limits
  /** Has room for one copy for each row. */
  readonly copier: GrantCopier
  readonly arena: Pick<Arena, 'allocate'>
}

export class Decoder {
  readonly #p: DecoderParts
  readonly #image8: Uint8Array
  readonly #image32: Uint32Array
  /**
   * Copies of indirect segments: COPY_BYTES for each row. The memory stays untouched until a guest
   * sends an indirect request.
   */
  readonly #copies: Pages
  readonly #copies32: Uint32Array
  /** Rows whose indirect segments are still to be fetched. */
  readonly #pending: Uint16Array
  #pendingCount = 0

  /** @throws ArenaFullError if the arena has no room for the copies of indirect segments */
  constructor(parts: DecoderParts) {
    const { arena, requests } = parts
    this.#p = parts
    this.#copies = arena.allocate(Math.ceil((requests.rows * COPY_BYTES) / PAGE_SIZE))
    const { buffer, byteOffset, length } = this.#copies.bytes
    this.#copies32 = new Uint32Array(buffer, byteOffset, length / 4)
    this.#image8 = new Uint8Array(parts.image)
    this.#image32 = new Uint32Array(parts.image)
    this.#pending = new Uint16Array(parts.requests.rows)
  }

  /**
   * Decodes the request at `imageOffset` of the image into a row. Its `status` is OKAY if it may
   * run, else the status to answer. An indirect request's status is final after `fetchIndirect`.
   */
  decode(row: number, imageOffset: number): void {
    const { requests, layout } = this.#p
    // The id has the same offset in every operation, so a refused one too can be answered.
    const id = (imageOffset + layout.request.at.id) >> 2
    requests.idLow[row] = this.#image32[id] ?? 0
    requests.idHigh[row] = this.#image32[id + 1] ?? 0
    requests.operation[row] = this.#image8[imageOffset] ?? 0
    requests.indirect[row] = 0
    requests.secure[row] = 0
    this.#conclude(row, this.#decodeKind(row, imageOffset))
  }

  /** Fetches the segments of all indirect requests since the last call and checks them. */
  fetchIndirect(): void {
    if (this.#pendingCount === 0) return
    const { requests, copier } = this.#p
    const failed = copier.copyIn()
    for (let i = 0; i < this.#pendingCount; i++) {
      const row = this.#pending[i] ?? 0
      const isCopied = failed === 0 || copier.status[i] === 0
      const count = requests.segmentCount[row] ?? 0
      const from = row * COPY_BYTES
      this.#conclude(row, isCopied ? this.#decodeSegments(row, this.#copies32, from, count) : ERROR)
    }
    this.#pendingCount = 0
    copier.reset()
  }

  close(): void {
    this.#copies.close()
  }

  #conclude(row: number, status: number): void {
    const { requests } = this.#p
    requests.status[row] = status
    if (status !== OKAY) requests.bytes[row] = requests.segmentCount[row] = 0
  }

  #decodeKind(row: number, imageOffset: number): number {
    const { limits } = this.#p
    switch (this.#image8[imageOffset]) {
      case BLKIF_OP.READ:
      case BLKIF_OP.WRITE:
        return this.#decodePlain(row, imageOffset)
      case BLKIF_OP.WRITE_BARRIER:
      case BLKIF_OP.FLUSH_DISKCACHE:
        return limits.flush ? this.#decodePlain(row, imageOffset) : EOPNOTSUPP
      case BLKIF_OP.DISCARD:
        return limits.discard ? this.#decodeDiscard(row, imageOffset) : EOPNOTSUPP
      case BLKIF_OP.INDIRECT:
        return this.#decodeIndirect(row, imageOffset)
      default:
        return EOPNOTSUPP
    }
  }

  #decodePlain(row: number, imageOffset: number): number {
    const { requests, layout } = this.#p
    const { at } = layout.request
    const count = this.#image8[imageOffset + at.nr_segments] ?? 0
    const operation = requests.operation[row]
    // A barrier or flush may come without data.
    if (count === 0 && (operation === BLKIF_OP.READ || operation === BLKIF_OP.WRITE)) return ERROR
    if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST) return ERROR
    requests.position[row] = this.#wide(imageOffset + at.sector_number) * 512
    return this.#decodeSegments(row, this.#image32, imageOffset + at.seg, count)
  }

  #decodeDiscard(row: number, imageOffset: number): number {
    const { requests, layout, limits } = this.#p
    const { at } = layout.discard
    const sector = this.#wide(imageOffset + at.sector_number)
    const count = this.#wide(imageOffset + at.nr_sectors)
    // Values above 2^53 are rounded, but stay far beyond the disk's end: the sum can't wrap.
    if (
      count === 0 ||
      !limits.writable ||
      sector + count > limits.sectors ||
      !this.#isAligned(sector, count)
    ) {
      return ERROR
    }
    requests.position[row] = sector * 512
    requests.bytes[row] = count * 512
    requests.segmentCount[row] = 0
    requests.secure[row] = limits.secureDiscard
      ? (this.#image8[imageOffset + at.flag] ?? 0) & BLKIF_DISCARD_SECURE
      : 0
    return OKAY
  }

  #decodeIndirect(row: number, imageOffset: number): number {
    const { requests, layout, copier } = this.#p
    const { at } = layout.indirect
    const operation = this.#image8[imageOffset + at.indirect_op] ?? 0
    const count =
      (this.#image8[imageOffset + at.nr_segments] ?? 0) |
      ((this.#image8[imageOffset + at.nr_segments + 1] ?? 0) << 8)
    requests.operation[row] = operation
    if (operation !== BLKIF_OP.READ && operation !== BLKIF_OP.WRITE) return ERROR
    if (count === 0 || count > MAX_SEGMENTS) return ERROR
    requests.indirect[row] = 1
    requests.segmentCount[row] = count
    requests.position[row] = this.#wide(imageOffset + at.sector_number) * 512
    const gref = this.#image32[(imageOffset + at.indirect_grefs) >> 2] ?? 0
    copier.add(gref, 0, count * segment.size, this.#copies.byteOffset + row * COPY_BYTES)
    this.#pending[this.#pendingCount++] = row
    return OKAY
  }

  /**
   * Decodes `count` segments, which start at byte `at` of the private copy, and checks the whole
   * request.
   */
  #decodeSegments(row: number, from: Uint32Array, at: number, count: number): number {
    const { requests, limits } = this.#p
    const { gref, pageOffset, length } = requests
    if (count > 0 && requests.operation[row] !== BLKIF_OP.READ && !limits.writable) return ERROR
    let total = 0
    let sizes = 0
    for (
      let word = at >> 2, i = row * MAX_SEGMENTS, end = i + count;
      i < end;
      word += SEGMENT_WORDS, i++
    ) {
      const sectorsWord = from[word + SECTORS_WORD] ?? 0
      const first = (sectorsWord >> FIRST_SHIFT) & 0xff
      const last = (sectorsWord >> LAST_SHIFT) & 0xff
      const sectors = last - first + 1
      if (sectors < 1 || last > LAST_SECTOR_OF_PAGE) return ERROR
      gref[i] = from[word + GREF_WORD] ?? 0
      pageOffset[i] = first * 512
      length[i] = sectors * 512
      total += sectors
      sizes |= sectors
    }
    const sector = requests.sector(row)
    // A u64 above 2^53 is rounded but stays above the limit: the sum can't wrap.
    if (total > 0 && (sector + total > limits.sectors || !this.#isAligned(sector, sizes))) {
      return ERROR
    }
    requests.bytes[row] = total * 512
    requests.segmentCount[row] = count
    return OKAY
  }

  /**
   * Whether both numbers of sectors are multiples of a logical sector. Numbers above 2^53 are left
   * to the range check, which refuses them.
   */
  #isAligned(sector: number, count: number): boolean {
    return ((sector | count) & this.#p.limits.sectorMask) === 0
  }

  /** The u64 at an offset of the image, rounded to a double. */
  #wide(imageOffset: number): number {
    return (
      (this.#image32[imageOffset >> 2] ?? 0) +
      (this.#image32[(imageOffset >> 2) + 1] ?? 0) * 2 ** 32
    )
  }
}
