/**
 * Data in the guest's own pages, mapped: see `DataPath`. The guest can write to them while the store
 * works. Without a cache every page is mapped for its request and unmapped before the answer.
 */
import type { GrantTable, PersistentGrant, PersistentGrants } from '@xenkit/grant'
import { GrantError, type GrantMapping } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { StoreBatch } from '../store-batch.ts'
import type { DataPath } from './data-path.ts'
import type { Requests } from './requests.ts'

/** Most pages of a ring that are mapped for single requests: four of the largest, so that one guest can't use up what all mappings share. */
const MAX_OWN_PAGES = 4 * MAX_SEGMENTS

export class MappedData implements DataPath {
  readonly #requests: Requests
  readonly #grants: GrantTable
  readonly #domid: number
  readonly #cache: PersistentGrants | undefined
  /** Of each row, by segment: pages from the cache, and pages for itself. */
  readonly #kept: PersistentGrant[][]
  readonly #own: GrantMapping[][]
  #ownPages = 0
  /** Of each row, by segment: its page. */
  readonly #pages: Uint8Array[][]

  constructor(o: { readonly requests: Requests; readonly grants: GrantTable; readonly domid: number; readonly cache: PersistentGrants | undefined }) {
    this.#requests = o.requests
    this.#grants = o.grants
    this.#domid = o.domid
    this.#cache = o.cache
    const perRow = <T>(): T[][] => Array.from({ length: o.requests.rows }, () => [])
    this.#kept = perRow()
    this.#own = perRow()
    this.#pages = perRow()
  }

  reserve(row: number): boolean {
    const { segmentCount, gref, operation, status } = this.#requests
    const pages = this.#pages[row] ?? []
    // Some are in use then, and the queue asks again when it has answered.
    if (this.#ownPages > 0 && this.#ownPages + (segmentCount[row] ?? 0) > MAX_OWN_PAGES) return false
    try {
      for (let i = row * MAX_SEGMENTS, end = i + (segmentCount[row] ?? 0); i < end; i++) pages.push(this.#page(row, gref[i] ?? 0, operation[row] === BLKIF_OP.READ))
    } catch (error) {
      // The reference is the guest's: its request fails, whatever the hypervisor said of it.
      if (!(error instanceof GrantError)) throw error
      status[row] = BLKIF_RSP.ERROR
    }
    return true
  }

  fetch(): void {}

  addViews(row: number, to: Uint8Array[]): void {
    const { offset, length } = this.#requests
    const pages = this.#pages[row] ?? []
    for (const [i, page] of pages.entries()) {
      const from = offset[row * MAX_SEGMENTS + i] ?? 0
      to.push(page.subarray(from, from + (length[row * MAX_SEGMENTS + i] ?? 0)))
    }
  }

  addVectors(row: number, to: StoreBatch): void {
    const { offset, length } = this.#requests
    const pages = this.#pages[row] ?? []
    for (let i = 0, segment = row * MAX_SEGMENTS; i < pages.length; i++, segment++) to.addVector((pages[i]?.byteOffset ?? 0) + (offset[segment] ?? 0), length[segment] ?? 0)
  }

  deliver(): void {}

  release(row: number): void {
    const pages = this.#pages[row]
    const kept = this.#kept[row]
    const own = this.#own[row]
    if (pages) pages.length = 0
    if (kept && this.#cache) {
      for (const grant of kept) this.#cache.release(grant)
      kept.length = 0
    }
    if (own && own.length > 0) {
      for (const mapping of own) mapping.close()
      this.#ownPages -= own.length
      own.length = 0
    }
  }

  close(): void {
    this.#cache?.close()
  }

  #page(row: number, gref: number, writable: boolean): Uint8Array {
    const grant = this.#cache?.use(gref)
    if (grant) {
      this.#kept[row]?.push(grant)
      return grant.bytes
    }
    const mapping = this.#grants.mapNow([{ domid: this.#domid, gref }], { writable })
    this.#own[row]?.push(mapping)
    this.#ownPages++
    return mapping.bytes
  }
}
