/**
 * Encodes requests into ring slots: plain, indirect and discard. Follows
 * xen/include/public/io/blkif.h.
 */
import { PAGE_SIZE } from '@xenkit/hypervisor'
import {
  BLKIF_DISCARD_SECURE,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  type BlkifLayout,
} from '@xenkit/wire'
import type { GrantedPage } from './granted-pages.ts'

/** A request of a disk. */
export interface DiskRequest {
  /** A BLKIF_OP. Long reads and writes are sent as indirect ones without the caller's doing. */
  readonly operation: number
  readonly sector: number
  /** Length of `data`, or of the range to discard, in bytes. */
  readonly bytes: number
  /** Buffers to read into or write from. */
  readonly data: readonly Uint8Array[]
  /** For a discard: whether it is a secure one. */
  readonly secure: boolean
  /** Called with the response's status, or with the reason why no response will come. */
  readonly done: (result: number | Error) => void
}

const dataPages = ({ operation, bytes }: DiskRequest): number =>
  operation === BLKIF_OP.DISCARD ? 0 : Math.ceil(bytes / PAGE_SIZE)

/**
 * Number of granted pages that a request needs: for its data, and one for the segments if they
 * don't fit into the slot.
 */
export function pagesOf(request: DiskRequest): number {
  const count = dataPages(request)
  return count > BLKIF_MAX_SEGMENTS_PER_REQUEST ? count + 1 : count
}

/** Writes requests into the slots of one ring. */
export class RequestEncoder {
  readonly #layout: BlkifLayout
  readonly #ring8: Uint8Array
  readonly #ring32: Uint32Array

  constructor(layout: BlkifLayout, ring: Uint8Array) {
    this.#layout = layout
    this.#ring8 = ring
    this.#ring32 = words(ring)
  }

  /**
   * Writes a request into the slot at byte offset `at` of the ring.
   * @param pages as many as `pagesOf` returns; the page for the segments comes last
   */
  encode(
    request: DiskRequest,
    at: number,
    id: { readonly low: number; readonly high: number },
    pages: readonly GrantedPage[],
  ): void {
    const { request: plain, slotSize } = this.#layout
    this.#ring8.fill(0, at, at + slotSize)
    // All kinds of requests have these fields at the same offsets.
    this.#ring8[at + plain.at.operation] = request.operation
    this.#ring32[(at + plain.at.id) >> 2] = id.low
    this.#ring32[((at + plain.at.id) >> 2) + 1] = id.high
    this.#wide(at + plain.at.sector_number, request.sector)
    const count = dataPages(request)
    if (request.operation === BLKIF_OP.DISCARD) this.#discard(request, at)
    else if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST) this.#indirect(request, at, pages, count)
    else {
      this.#ring8[at + plain.at.nr_segments] = count
      this.#segments(request, pages, count, this.#ring8, this.#ring32, at + plain.at.seg)
    }
  }

  #discard({ bytes, secure }: DiskRequest, at: number): void {
    const { discard } = this.#layout
    this.#ring8[at + discard.at.flag] = secure ? BLKIF_DISCARD_SECURE : 0
    this.#wide(at + discard.at.nr_sectors, bytes / 512)
  }

  #indirect(request: DiskRequest, at: number, pages: readonly GrantedPage[], count: number): void {
    const { indirect } = this.#layout
    const list = pages[count]
    if (!list) throw new RangeError(`"pages" expected ${count + 1}, got ${pages.length}`)
    this.#segments(request, pages, count, list.bytes, words(list.bytes), 0)
    this.#ring8[at + indirect.at.operation] = BLKIF_OP.INDIRECT
    this.#ring8[at + indirect.at.indirect_op] = request.operation
    this.#ring8[at + indirect.at.nr_segments] = count & 0xff
    this.#ring8[at + indirect.at.nr_segments + 1] = count >> 8
    this.#wide(at + indirect.at.sector_number, request.sector)
    this.#ring32[(at + indirect.at.indirect_grefs) >> 2] = list.gref
  }

  #segments(
    { bytes }: DiskRequest,
    pages: readonly GrantedPage[],
    count: number,
    to8: Uint8Array,
    to32: Uint32Array,
    from: number,
  ): void {
    const { segment } = this.#layout
    for (let i = 0, at = from; i < count; i++, at += segment.size) {
      to32[(at + segment.at.gref) >> 2] = pages[i]?.gref ?? 0
      to8[at + segment.at.first_sect] = 0
      to8[at + segment.at.last_sect] = Math.min(PAGE_SIZE, bytes - i * PAGE_SIZE) / 512 - 1
    }
  }

  #wide(at: number, value: number): void {
    this.#ring32[at >> 2] = value >>> 0
    this.#ring32[(at >> 2) + 1] = Math.floor(value / 2 ** 32)
  }
}

const words = ({ buffer, byteOffset, byteLength }: Uint8Array): Uint32Array =>
  new Uint32Array(buffer, byteOffset, byteLength / 4)
