/**
 * The data paths `map` and `persistent`: the store works on the guest's own pages, mapped. The
 * guest can write to them meanwhile. If a request's pages can't be mapped, for lack of room say,
 * its data is copied instead.
 */
import { ArenaFullError, GrantError } from '@xenkit/hypervisor'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { CopiedData } from './copied-data.ts'
import type { DataPath } from './data-path.ts'
import type { Requests } from './requests.ts'

/** Maps the pages of requests. */
export interface PageSource {
  /**
   * Maps a row's pages and sets the row's `offset`.
   * @returns `wait` if other requests of the ring have to be answered first, `copy` if the row's
   *   data has to be copied
   * @throws GrantError, ArenaFullError if the pages can't be mapped: none of the row's stays mapped
   */
  map(row: number): 'mapped' | 'wait' | 'copy'
  /** Releases the pages that `map` mapped for a row, if any. */
  release(row: number): void
  close(): void
}

/** Parts of a `MappedData`. */
export interface MappedDataOptions {
  readonly requests: Requests
  /** The arena's buffer, into which pages are mapped. */
  readonly buffer: ArrayBufferLike
  readonly pages: PageSource
  readonly copied: CopiedData
}

export class MappedData implements DataPath {
  readonly #requests: Requests
  readonly #buffer: ArrayBufferLike
  readonly #pages: PageSource
  readonly #copied: CopiedData
  /** The oldest waiting row is in the pool's queue for a buffer. */
  #waitsForBuffer = false

  constructor(o: MappedDataOptions) {
    this.#requests = o.requests
    this.#buffer = o.buffer
    this.#pages = o.pages
    this.#copied = o.copied
  }

  reserve(row: number): boolean {
    const outcome = this.#map(row)
    if (outcome === 'copy') {
      const reserved = this.#copied.reserve(row)
      this.#waitsForBuffer = !reserved
      return reserved
    }
    if (this.#waitsForBuffer) this.#copied.waitNoMore()
    this.#waitsForBuffer = false
    return outcome === 'mapped'
  }

  fetch(rows: Uint16Array, first: number, end: number): void {
    this.#copied.fetch(rows, first, end)
  }

  addViews(row: number, to: Uint8Array[]): void {
    if (this.#copied.has(row)) return this.#copied.addViews(row, to)
    const { segmentCount, length, offset } = this.#requests
    const first = row * MAX_SEGMENTS
    for (let segment = first, end = first + (segmentCount[row] ?? 0); segment < end; segment++) {
      to.push(new Uint8Array(this.#buffer, offset[segment], length[segment]))
    }
  }

  deliver(rows: Uint16Array, count: number): void {
    this.#copied.deliver(rows, count)
  }

  release(row: number): void {
    if (this.#copied.has(row)) this.#copied.release(row)
    else this.#pages.release(row)
  }

  close(): void {
    try {
      this.#pages.close()
    } finally {
      this.#copied.close()
    }
  }

  #map(row: number): 'mapped' | 'wait' | 'copy' {
    try {
      return this.#pages.map(row)
    } catch (error) {
      // Xen too may be out of room for mappings, and some grants can only be copied. If the guest
      // is to blame, the copy fails as well and the request gets an error.
      if (error instanceof ArenaFullError || error instanceof GrantError) return 'copy'
      throw error
    }
  }
}
