/**
 * Reads requests off private copies of ring slots, each once, and checks them. What is refused gets the
 * answer that Linux's blkback gives: EOPNOTSUPP for what isn't offered, ERROR for what no correct guest
 * sends.
 *
 * The segments of an indirect request lie in a page of the guest's, which is copied before it is looked
 * at (XSA-155). There is one such page whatever the request names: MAX_SEGMENTS fill half of it.
 */
import type { GrantCopier } from '@xenkit/grant'
import { type Arena, ArenaFullError, PAGE_SIZE, type Pages } from '@xenkit/hypervisor'
import { BLKIF_DISCARD_SECURE, BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, BLKIF_RSP, type BlkifLayout } from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { Limits } from './limits.ts'
import type { Requests } from './requests.ts'

const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP

const LAST_SECTOR_OF_PAGE = PAGE_SIZE / 512 - 1

export interface DecoderParts {
  readonly requests: Requests
  /** The ring's private copies of drained slots. */
  readonly image: ArrayBuffer
  readonly layout: BlkifLayout
  readonly limits: Limits
  /** Room for an operation of each row. */
  readonly copier: GrantCopier
  readonly arena: Arena
}

export class Decoder {
  readonly #p: DecoderParts
  readonly #image8: Uint8Array
  readonly #image32: Uint32Array
  readonly #segmentBytes: number
  /** Copies of indirect segments, a place for each row: none until a guest sends some. */
  #copies: Pages | undefined
  /** Rows whose segments are still to be fetched. */
  readonly #pending: Uint16Array
  #pendingCount = 0

  constructor(parts: DecoderParts) {
    this.#p = parts
    this.#image8 = new Uint8Array(parts.image)
    this.#image32 = new Uint32Array(parts.image)
    this.#segmentBytes = MAX_SEGMENTS * parts.layout.segment.size
    this.#pending = new Uint16Array(parts.requests.rows)
  }

  /**
   * Reads the request at `imageOffset` of the image into a row. Its `status` is OKAY where it may run,
   * else what to answer; that of indirect ones is known after `fetchIndirect`.
   */
  decode(row: number, imageOffset: number): void {
    const { requests, layout } = this.#p
    // Every operation has its id in the same place, so that a refusal too reaches its request.
    const id = (imageOffset + layout.request.at.id) >> 2
    requests.idLow[row] = this.#image32[id] ?? 0
    requests.idHigh[row] = this.#image32[id + 1] ?? 0
    requests.operation[row] = this.#image8[imageOffset] ?? 0
    requests.indirect[row] = 0
    requests.secure[row] = 0
    requests.bytes[row] = 0
    requests.segmentCount[row] = 0
    requests.status[row] = this.#decodeKind(row, imageOffset)
  }

  /** Fetches the segments of all indirect requests since the last call and checks them. */
  fetchIndirect(): void {
    const copies = this.#copies
    if (this.#pendingCount === 0 || !copies) return
    const { requests, copier } = this.#p
    const failed = copier.copyIn()
    for (let i = 0; i < this.#pendingCount; i++) {
      const row = this.#pending[i] ?? 0
      const count = requests.segmentCount[row] ?? 0
      requests.segmentCount[row] = 0
      requests.status[row] = failed > 0 && copier.status[i] !== 0 ? ERROR : this.#decodeSegments(row, copies.bytes, row * this.#segmentBytes, count)
    }
    this.#pendingCount = 0
    copier.reset()
  }

  close(): void {
    this.#copies?.close()
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
    // A barrier or flush may go without data.
    if (count === 0 && (operation === BLKIF_OP.READ || operation === BLKIF_OP.WRITE)) return ERROR
    if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST) return ERROR
    requests.sector[row] = this.#wide(imageOffset + at.sector_number)
    return this.#decodeSegments(row, this.#image8, imageOffset + at.seg, count)
  }

  #decodeDiscard(row: number, imageOffset: number): number {
    const { requests, layout, limits } = this.#p
    const { at } = layout.discard
    const sector = this.#wide(imageOffset + at.sector_number)
    const count = this.#wide(imageOffset + at.nr_sectors)
    // Rounded where above 2^53, which both are then far beyond the end with: no wrap to check for.
    if (count === 0 || !limits.writable || sector + count > limits.sectors || !this.#isAligned(sector, count)) return ERROR
    requests.sector[row] = sector
    requests.bytes[row] = count * 512
    requests.secure[row] = limits.secureDiscard ? (this.#image8[imageOffset + at.flag] ?? 0) & BLKIF_DISCARD_SECURE : 0
    return OKAY
  }

  #decodeIndirect(row: number, imageOffset: number): number {
    const { requests, layout, copier } = this.#p
    const { at } = layout.indirect
    const operation = this.#image8[imageOffset + at.indirect_op] ?? 0
    const count = (this.#image8[imageOffset + at.nr_segments] ?? 0) | ((this.#image8[imageOffset + at.nr_segments + 1] ?? 0) << 8)
    requests.operation[row] = operation
    if (operation !== BLKIF_OP.READ && operation !== BLKIF_OP.WRITE) return ERROR
    if (count === 0 || count > MAX_SEGMENTS) return ERROR
    const copies = this.#roomForCopies()
    if (!copies) return ERROR
    requests.indirect[row] = 1
    requests.segmentCount[row] = count
    requests.sector[row] = this.#wide(imageOffset + at.sector_number)
    const gref = this.#image32[(imageOffset + at.indirect_grefs) >> 2] ?? 0
    copier.add(gref, 0, count * layout.segment.size, copies.byteOffset + row * this.#segmentBytes)
    this.#pending[this.#pendingCount++] = row
    return OKAY
  }

  /** @returns undefined if other disks have all of the arena: the request fails, as one does for which blkback has no memory */
  #roomForCopies(): Pages | undefined {
    try {
      this.#copies ??= this.#p.arena.allocate(Math.ceil((this.#p.requests.rows * this.#segmentBytes) / PAGE_SIZE))
      return this.#copies
    } catch (error) {
      if (!(error instanceof ArenaFullError)) throw error
      return undefined
    }
  }

  /** Reads `count` segments that begin at `at` of private bytes, and checks the whole of the request. */
  #decodeSegments(row: number, from: Uint8Array, at: number, count: number): number {
    const { requests, layout, limits } = this.#p
    const { segment } = layout
    if (count > 0 && requests.operation[row] !== BLKIF_OP.READ && !limits.writable) return ERROR
    const sector = requests.sector[row] ?? 0
    let bytes = 0
    for (let i = row * MAX_SEGMENTS, end = i + count; i < end; i++, at += segment.size) {
      const first = from[at + segment.at.first_sect] ?? 0
      const last = from[at + segment.at.last_sect] ?? 0
      const sectors = last - first + 1
      if (first > last || last > LAST_SECTOR_OF_PAGE || !this.#isAligned(sector, sectors)) return ERROR
      const gref = at + segment.at.gref
      requests.gref[i] = (from[gref] ?? 0) | ((from[gref + 1] ?? 0) << 8) | ((from[gref + 2] ?? 0) << 16) | ((from[gref + 3] ?? 0) << 24)
      requests.pageOffset[i] = first * 512
      requests.length[i] = sectors * 512
      bytes += sectors * 512
    }
    // Rounding of a u64 above 2^53 can't bring it below the limit, so the sum needs no wrap check.
    if (bytes > 0 && sector + bytes / 512 > limits.sectors) return ERROR
    requests.bytes[row] = bytes
    requests.segmentCount[row] = count
    return OKAY
  }

  /** Whether these numbers of sectors are whole logical sectors. A number above 2^53 is refused by the range check. */
  #isAligned(sector: number, count: number): boolean {
    return ((sector | count) & this.#p.limits.sectorMask) === 0
  }

  /** The u64 at an offset of the image, rounded to a double. */
  #wide(imageOffset: number): number {
    return (this.#image32[imageOffset >> 2] ?? 0) + (this.#image32[(imageOffset >> 2) + 1] ?? 0) * 2 ** 32
  }
}
