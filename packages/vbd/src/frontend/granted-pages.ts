/**
 * The frontend's pages for data: granted to the backend writable and for the disk's whole life, and
 * used again, as persistent grants have to be. They are granted as they are needed, up to a limit.
 */
import { type GrantShare, PAGE_SIZE } from '@xenkit/hypervisor'

/** Granted together. */
const RUN_PAGES = 32

/** Of a disk: two of the largest requests, less than gntalloc's 1024 of a whole system. */
const MAX_PAGES = 544

export interface GrantedPage {
  readonly gref: number
  readonly bytes: Uint8Array
}

export class GrantedPages {
  readonly #share: (pages: number) => GrantShare
  /** Those used last are used next, so that few are used at all. */
  readonly #free: GrantedPage[] = []
  #count = 0

  /** @param share grants pages until the disk's end, which is its business */
  constructor(share: (pages: number) => GrantShare) {
    this.#share = share
  }

  /**
   * @returns undefined if requests in flight have to give theirs back first
   * @throws GrantError, ArenaFullError if there can't be as many, whatever is given back
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

/** Copies consecutive bytes into pages. */
export function fill(pages: readonly GrantedPage[], from: readonly Uint8Array[]): void {
  walk(pages, from, (page, piece) => page.set(piece))
}

/** Copies pages into consecutive bytes. */
export function drain(pages: readonly GrantedPage[], into: readonly Uint8Array[]): void {
  walk(pages, into, (page, piece) => piece.set(page))
}

/** Goes through pages and buffers side by side, in parts of equal length. */
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
