/**
 * Data in the guest's own pages, mapped: see `DataPath`. The guest can write to them while the store
 * works. Without a cache every page is mapped for its request and unmapped before the answer.
 */
import type { GrantTable, PersistentGrant, PersistentGrants } from '@xenkit/grant'
import { ArenaFullError, GrantError, type GrantMapping } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { DataPath } from './data-path.ts'
import type { Requests } from './requests.ts'

/** Most pages of a ring that are mapped for single requests: four of the largest, so that one guest can't use up what all mappings share. */
const MAX_OWN_PAGES = 4 * MAX_SEGMENTS

export class MappedData implements DataPath {
  readonly #requests: Requests
  readonly #grants: GrantTable
  readonly #domid: number
  readonly #cache: PersistentGrants | undefined
  /** Of each row, by segment: its page, from the cache or mapped for it alone. Never cut: an array that is would be made anew for the next request. */
  readonly #pages: (PersistentGrant | GrantMapping | undefined)[][]
  readonly #pageCount: Uint16Array
  /** Pages that are mapped for rows alone. */
  #ownPages = 0

  constructor(o: { readonly requests: Requests; readonly grants: GrantTable; readonly domid: number; readonly cache: PersistentGrants | undefined }) {
    this.#requests = o.requests
    this.#grants = o.grants
    this.#domid = o.domid
    this.#cache = o.cache
    this.#pages = Array.from({ length: o.requests.rows }, () => [])
    this.#pageCount = new Uint16Array(o.requests.rows)
  }

  reserve(row: number): boolean {
    const { segmentCount, gref, pageOffset, offset, operation, status } = this.#requests
    const pages = this.#pages[row] ?? []
    const segments = segmentCount[row] ?? 0
    // Some are in use then, and the queue asks again when it has answered.
    if (this.#ownPages > 0 && this.#ownPages + segments > MAX_OWN_PAGES) return false
    try {
      for (let i = 0, segment = row * MAX_SEGMENTS; i < segments; i++, segment++) {
        const page = this.#page(gref[segment] ?? 0, operation[row] === BLKIF_OP.READ)
        pages[i] = page
        this.#pageCount[row] = i + 1
        offset[segment] = page.byteOffset + (pageOffset[segment] ?? 0)
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
    const { pageOffset, length } = this.#requests
    const pages = this.#pages[row] ?? []
    for (let i = 0, segment = row * MAX_SEGMENTS; i < (this.#pageCount[row] ?? 0); i++, segment++) {
      const from = pageOffset[segment] ?? 0
      const bytes = pages[i]?.bytes
      if (bytes) to.push(bytes.subarray(from, from + (length[segment] ?? 0)))
    }
  }

  deliver(): void {}

  release(row: number): void {
    const pages = this.#pages[row] ?? []
    const count = this.#pageCount[row] ?? 0
    this.#pageCount[row] = 0
    for (let i = 0; i < count; i++) {
      const page = pages[i]
      pages[i] = undefined
      if (page === undefined) continue
      if ('close' in page) {
        this.#ownPages--
        page.close()
      } else {
        this.#cache?.release(page)
      }
    }
  }

  close(): void {
    this.#cache?.close()
  }

  #page(gref: number, writable: boolean): PersistentGrant | GrantMapping {
    const grant = this.#cache?.use(gref)
    if (grant) return grant
    const mapping = this.#grants.mapNow([{ domid: this.#domid, gref }], { writable })
    this.#ownPages++
    return mapping
  }
}
