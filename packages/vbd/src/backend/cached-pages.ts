/** The guest's pages, kept mapped after a request for the next one that names them. */
import type { PersistentGrants } from '@xenkit/grant'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { PageSource } from './mapped-data.ts'
import type { Requests } from './requests.ts'

export class CachedPages implements PageSource {
  readonly #requests: Requests
  readonly #cache: PersistentGrants
  /** Cache slot of each segment's page. In a row, the first `#used[row]` are valid. */
  readonly #places: Uint16Array
  readonly #used: Uint16Array

  constructor(requests: Requests, cache: PersistentGrants) {
    this.#requests = requests
    this.#cache = cache
    this.#places = new Uint16Array(requests.rows * MAX_SEGMENTS)
    this.#used = new Uint16Array(requests.rows)
  }

  map(row: number): 'mapped' | 'copy' {
    try {
      if (this.#use(row)) return 'mapped'
    } catch (error) {
      this.release(row)
      throw error
    }
    this.release(row)
    return 'copy'
  }

  release(row: number): void {
    const first = row * MAX_SEGMENTS
    for (let segment = first, end = first + (this.#used[row] ?? 0); segment < end; segment++) {
      this.#cache.end(this.#places[segment] ?? 0)
    }
    this.#used[row] = 0
  }

  close(): void {
    this.#cache.close()
  }

  /**
   * Takes a cache slot for each page of a row, mapping pages that are missing.
   *
   * @returns false if the cache has no room for a page; the pages before it are in use
   */
  #use(row: number): boolean {
    const { segmentCount, gref, pageOffset, offset } = this.#requests
    const first = row * MAX_SEGMENTS
    const end = first + (segmentCount[row] ?? 0)
    for (let segment = first; segment < end; segment++) {
      const page = gref[segment] ?? 0
      let place = this.#cache.find(page)
      if (place === undefined) {
        if (!this.#cache.add(this.#missing(segment, end))) return false
        place = this.#cache.find(page) ?? 0
      }
      // A slot in use is never evicted, whatever pages are added after it.
      offset[segment] = this.#cache.use(place) + (pageOffset[segment] ?? 0)
      this.#places[segment] = place
      this.#used[row] = segment + 1 - first
    }
    return true
  }

  /**
   * Grant references of segments `first` to `end - 1` whose pages aren't cached, without repeats.
   */
  #missing(first: number, end: number): number[] {
    const grefs = new Set(this.#requests.gref.subarray(first, end))
    return [...grefs].filter((gref) => this.#cache.find(gref) === undefined)
  }
}
