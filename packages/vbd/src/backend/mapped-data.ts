/**
 * Data in the guest's own pages, mapped: see `DataPath`. The guest can write to them while the
 * store works. A request whose pages can't be mapped, for want of room say, has its data copied.
 */
import { ArenaFullError, GrantError } from '@xenkit/hypervisor'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { CopiedData } from './copied-data.ts'
import type { DataPath } from './data-path.ts'
import type { Requests } from './requests.ts'

/** Maps the pages of requests. */
export interface PageSource {
  /**
   * Maps a row's pages and says where its data lies: the row's `offset`.
   * @returns `wait` if other requests of the ring have to be answered first
   * @throws GrantError, ArenaFullError if they can't be mapped: nothing of the row stays mapped
   */
  map(row: number): 'mapped' | 'wait' | 'copy'
  /** Ends what `map` did for a row, if it did anything. */
  release(row: number): void
  close(): void
}

export interface MappedDataOptions {
  readonly requests: Requests
  /** Of the arena, which pages are mapped into. */
  readonly buffer: ArrayBufferLike
  readonly pages: PageSource
  readonly copied: CopiedData
}

export class MappedData implements DataPath {
  readonly #requests: Requests
  readonly #buffer: ArrayBufferLike
  readonly #pages: PageSource
  readonly #copied: CopiedData
  /** The oldest request waits for a buffer, unless its pages can be mapped by then. */
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
      // Xen may have no room for mappings either, and some grants can only be copied. Where the
      // guest is to blame the copy fails, too, and with it the request.
      if (error instanceof ArenaFullError || error instanceof GrantError) return 'copy'
      throw error
    }
  }
}
