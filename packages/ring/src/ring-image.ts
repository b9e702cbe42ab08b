/**
 * Copies of the other domain's slots in private memory. A drained slot is copied before anything in
 * it is read, so that the bytes which are checked are the bytes which are used (XSA-155).
 *
 * A slot's copy has the same offset as the slot in the ring, so neighbouring slots are one run of
 * bytes. Many slots are copied by whole pages (2 ns per slot of 112 bytes). A few are copied by
 * 64-bit words (8 ns), which between BigUint64Arrays stay in machine registers. Other bytes of
 * those pages and words are copied too, and never used. Neither way allocates. Pages are slower
 * where the other domain is writing to the rest of the page, because its cache lines must move: 8
 * slots of 112 bytes took 70 ns each.
 */
import { RING_OFFSET, XEN_PAGE_SIZE } from '@xenkit/wire'

/**
 * Most bytes that are copied by words; more are copied by pages, which is faster: 9 slots of blkif.
 */
const FEW = 1024

/** Geometry of a ring. */
export interface RingSlots {
  /** All pages of the ring. */
  readonly bytes: Uint8Array
  readonly slotSize: number
  /** Number of slots. */
  readonly size: number
}

/** The private copy of one ring's slots. */
export class RingImage {
  readonly buffer: ArrayBuffer
  readonly #slotSize: number
  readonly #size: number
  readonly #pages: readonly Uint8Array[]
  readonly #bytes: Uint8Array
  readonly #from: BigUint64Array
  readonly #to: BigUint64Array

  constructor({ bytes, slotSize, size }: RingSlots) {
    this.buffer = new ArrayBuffer(bytes.byteLength)
    this.#slotSize = slotSize
    this.#size = size
    this.#pages = Array.from({ length: bytes.byteLength / XEN_PAGE_SIZE }, (_, page) =>
      bytes.subarray(page * XEN_PAGE_SIZE, (page + 1) * XEN_PAGE_SIZE),
    )
    this.#bytes = new Uint8Array(this.buffer)
    this.#from = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8)
    this.#to = new BigUint64Array(this.buffer)
  }

  /**
   * Copies `count` slots (1 or more) from slot `first`, wrapping at the ring's end. Each byte is
   * read once.
   */
  copy(first: number, count: number): void {
    const end = first + count
    const wraps = end > this.#size
    const from = this.#offset(first)
    const to = this.#offset(wraps ? end - this.#size : end)
    if (count * this.#slotSize > FEW) {
      this.#copyPages(Math.trunc(from / XEN_PAGE_SIZE), Math.trunc((to - 1) / XEN_PAGE_SIZE), wraps)
    } else if (!wraps) this.#copyWords(from, to)
    else {
      this.#copyWords(from, this.#offset(this.#size))
      this.#copyWords(RING_OFFSET, to)
    }
  }

  #offset(slot: number): number {
    return RING_OFFSET + slot * this.#slotSize
  }

  #copyWords(begin: number, end: number): void {
    const from = this.#from
    const to = this.#to
    const stop = (end + 7) >> 3
    for (let at = begin >> 3; at < stop; at++) to[at] = from[at] ?? 0n
  }

  #copyPages(first: number, last: number, wraps: boolean): void {
    // A run that wraps around to the page where it starts needs all pages.
    const all = wraps && last >= first
    const end = all ? this.#pages.length - 1 : last
    for (let page = all ? 0 : first; ; page = page + 1 === this.#pages.length ? 0 : page + 1) {
      const bytes = this.#pages[page]
      if (bytes) this.#bytes.set(bytes, page * XEN_PAGE_SIZE)
      if (page === end) return
    }
  }
}
