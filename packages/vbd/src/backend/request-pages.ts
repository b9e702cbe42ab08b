/**
 * The guest's pages, mapped for one request by one call and unmapped before its response. Pages of
 * a write are mapped read-only: a store that changed them would crash the process (SIGSEGV). Data
 * is copied instead if the store's `write` may change its buffers.
 */
import type { ArenaShare, GrantTable } from '@xenkit/grant'
import type { MappedPages } from '@xenkit/hypervisor'
import { BLKIF_OP } from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { PageSource } from './mapped-data.ts'
import type { Requests } from './requests.ts'

/** Most pages mapped at a time for a ring: four of the largest requests. */
const MAX_PAGES = 4 * MAX_SEGMENTS

export class RequestPages implements PageSource {
  readonly #requests: Requests
  readonly #grants: GrantTable
  readonly #share: ArenaShare
  readonly #readsAlone: boolean
  /** Pages of each row. */
  readonly #mapped: (MappedPages | undefined)[]
  #pages = 0

  constructor(o: {
    readonly requests: Requests
    readonly grants: GrantTable
    readonly share: ArenaShare
    /** Map pages of reads only, and have data of writes copied. */
    readonly readsAlone: boolean
  }) {
    this.#requests = o.requests
    this.#grants = o.grants
    this.#share = o.share
    this.#readsAlone = o.readsAlone
    this.#mapped = Array.from({ length: o.requests.rows })
  }

  map(row: number): 'mapped' | 'wait' | 'copy' {
    const { segmentCount, gref, pageOffset, offset, operation } = this.#requests
    const count = segmentCount[row] ?? 0
    if (count === 0) return 'mapped'
    const reads = operation[row] === BLKIF_OP.READ
    if (this.#readsAlone && !reads) return 'copy'
    // The row is tried again when requests in flight have been answered.
    if (this.#pages > 0 && !this.#mayMap(count)) return 'wait'
    const first = row * MAX_SEGMENTS
    const { domid } = this.#share
    const refs = Array.from(gref.subarray(first, first + count), (each) => ({ domid, gref: each }))
    const pages = this.#grants.mapPages(refs, { writable: reads })
    this.#mapped[row] = pages
    this.#pages += count
    this.#share.work(count)
    for (let i = 0; i < count; i++) {
      offset[first + i] = (pages.offsets[i] ?? 0) + (pageOffset[first + i] ?? 0)
    }
    return 'mapped'
  }

  release(row: number): void {
    const pages = this.#mapped[row]
    if (!pages) return
    const count = pages.offsets.length
    this.#mapped[row] = undefined
    this.#pages -= count
    try {
      pages.close()
    } finally {
      this.#share.rest(count)
    }
  }

  /** Nothing to do: every row was released before. */
  close(): void {}

  #mayMap(count: number): boolean {
    return this.#pages + count <= MAX_PAGES && this.#share.mayWork(count)
  }
}
