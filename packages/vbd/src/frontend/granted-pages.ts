/**
 * The frontend's data pages. They are granted writable for the disk's whole life and reused, as
 * persistent grants require. Pages are granted on demand, up to a limit.
 */
import { type GrantShare, PAGE_SIZE } from '@xenkit/hypervisor'

/** Pages that are granted together. */
const RUN_PAGES = 32

/**
 * Most pages of a disk: two of the largest requests, and less than gntalloc's limit of 1024 for the
 * whole system.
 */
const MAX_PAGES = 544

/** A page that is granted to the backend. */
export interface GrantedPage {
  readonly gref: number
  readonly bytes: Uint8Array
}

/** Lends granted pages to the requests of one disk. */
export class GrantedPages {
  readonly #share: (pages: number) => GrantShare
  /** A stack: the page returned last is lent next, so few pages are ever used. */
  readonly #free: GrantedPage[] = []
  #count = 0

  /** @param share grants pages, and ends the grants when the disk is closed */
  constructor(share: (pages: number) => GrantShare) {
    this.#share = share
  }

  /**
   * Lends `count` pages.
   * @returns undefined if requests in flight have to return pages first
   * @throws GrantError, ArenaFullError if there can't be that many even when all are returned
   */
  take(count: number): GrantedPage[] | undefined {
    try {
      while (this.#free.length < count && this.#count < MAX_PAGES) this.#grow()
    } catch (error) {
      if (this.#count < count) throw error
    }
    return this.#free.length < count ? undefined : this.#free.splice(this.#free.length - count)
  }

  give(pages: readonly GrantedPage[]): void {
    this.#free.push(...pages)
  }

  #grow(): void {
    const { bytes, grefs } = this.#share(RUN_PAGES)
    for (const [i, gref] of grefs.entries()) {
      this.#free.push({ gref, bytes: bytes.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE) })
    }
    this.#count += RUN_PAGES
  }
}

/** Copies buffers into pages. */
export function fill(pages: readonly GrantedPage[], from: readonly Uint8Array[]): void {
  walk(pages, from, (page, piece) => page.set(piece))
}

/** Copies pages into buffers. */
export function drain(pages: readonly GrantedPage[], into: readonly Uint8Array[]): void {
  walk(pages, into, (page, piece) => piece.set(page))
}

/** Visits pages and buffers in parallel, in parts of equal length. */
function walk(
  pages: readonly GrantedPage[],
  buffers: readonly Uint8Array[],
  visit: (page: Uint8Array, piece: Uint8Array) => void,
): void {
  let at = 0
  for (const buffer of buffers) {
    for (let offset = 0; offset < buffer.length;) {
      const page = pages[Math.floor(at / PAGE_SIZE)]
      const length = Math.min(buffer.length - offset, PAGE_SIZE - (at % PAGE_SIZE))
      if (page) {
        visit(
          page.bytes.subarray(at % PAGE_SIZE, (at % PAGE_SIZE) + length),
          buffer.subarray(offset, offset + length),
        )
      }
      offset += length
      at += length
    }
  }
}
