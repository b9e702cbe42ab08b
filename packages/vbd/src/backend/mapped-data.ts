/**
 * Data in the guest's own pages, mapped: see `DataPath`. The guest can write to them while the store
 * works. Without a cache every page is mapped for its request and unmapped before the answer.
 */
import { type GrantTable, PersistentGrants } from '@xenkit/grant'
import { ArenaFullError, closeAll, GrantError, type GrantMapping } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { DataPath } from './data-path.ts'
import type { Requests } from './requests.ts'

/** Most pages of a ring that are mapped for single requests: four of the largest, so that one guest can't use up what all mappings share. */
const MAX_OWN_PAGES = 4 * MAX_SEGMENTS

export interface MappedDataOptions {
  readonly requests: Requests
  readonly grants: GrantTable
  readonly domid: number
  /** Of the arena, which pages are mapped into. */
  readonly buffer: ArrayBufferLike
  /** If pages are to stay mapped: see `PersistentGrants`. */
  readonly persistent:
    | {
        readonly capacity: number
        readonly counted: (change: number) => void
        readonly failed: (error: unknown) => void
      }
    | undefined
}

export class MappedData implements DataPath {
  readonly #requests: Requests
  readonly #grants: GrantTable
  readonly #domid: number
  readonly #buffer: ArrayBufferLike
  readonly #cache: PersistentGrants | undefined
  /** How often a page of the cache had been used before those of a row were, while that has them. */
  readonly #usesBefore: Float64Array
  /** Of each row, pages that are mapped for it alone. Never cut: an array that is would be made anew for the next request. */
  readonly #own: (GrantMapping | undefined)[][]
  readonly #ownCount: Uint16Array
  #ownPages = 0

  constructor(o: MappedDataOptions) {
    this.#requests = o.requests
    this.#grants = o.grants
    this.#domid = o.domid
    this.#buffer = o.buffer
    this.#usesBefore = new Float64Array(o.requests.rows).fill(Infinity)
    this.#own = Array.from({ length: o.requests.rows }, () => [])
    this.#ownCount = new Uint16Array(o.requests.rows)
    this.#cache = o.persistent && new PersistentGrants(o.grants, { domid: o.domid, allEnded: () => this.#usesBefore.reduce((a, b) => Math.min(a, b)), ...o.persistent })
  }

  reserve(row: number): boolean {
    const { segmentCount, gref, pageOffset, offset, status } = this.#requests
    const segments = segmentCount[row] ?? 0
    // Some are in use then, and the queue asks again when it has answered.
    if (this.#ownPages > 0 && this.#ownPages + segments > MAX_OWN_PAGES) return false
    if (this.#cache && segments > 0) this.#usesBefore[row] = this.#cache.uses
    try {
      for (let segment = row * MAX_SEGMENTS, end = segment + segments; segment < end; segment++) {
        const page = gref[segment] ?? 0
        offset[segment] = (this.#cache?.use(page) ?? this.#mapFor(row, page)) + (pageOffset[segment] ?? 0)
      }
    } catch (error) {
      // The reference is the guest's: its request fails, whatever the hypervisor said of it. So it does where there is no place
      // for the page, as one does for which blkback has no memory.
      if (!(error instanceof GrantError) && !(error instanceof ArenaFullError)) throw error
      status[row] = BLKIF_RSP.ERROR
    }
    return true
  }

  fetch(): void {}

  addViews(row: number, to: Uint8Array[]): void {
    const { segmentCount, length, offset } = this.#requests
    for (let segment = row * MAX_SEGMENTS, end = segment + (segmentCount[row] ?? 0); segment < end; segment++) to.push(new Uint8Array(this.#buffer, offset[segment], length[segment]))
  }

  deliver(): void {}

  release(row: number): void {
    this.#usesBefore[row] = Infinity
    if (this.#ownPages > 0) this.#unmapOwn(row)
  }

  close(): void {
    this.#cache?.close()
  }

  /** @returns where the page is */
  #mapFor(row: number, gref: number): number {
    const mapping = this.#grants.mapNow([{ domid: this.#domid, gref }], { writable: this.#requests.operation[row] === BLKIF_OP.READ })
    const count = this.#ownCount[row] ?? 0
    const own = this.#own[row] ?? []
    own[count] = mapping
    this.#ownCount[row] = count + 1
    this.#ownPages++
    return mapping.byteOffset
  }

  #unmapOwn(row: number): void {
    const own = this.#own[row] ?? []
    const count = this.#ownCount[row] ?? 0
    this.#ownCount[row] = 0
    this.#ownPages -= count
    const closing = own.slice(0, count)
    own.fill(undefined, 0, count)
    closeAll(closing.filter((mapping) => mapping !== undefined))
  }
}
