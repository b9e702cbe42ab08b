/**
 * Pages that a frontend lets stay mapped, by requests 8 to 10 of the control ring: the section
 * "Static Grants" of xen/include/public/io/netif.h. No copy by the hypervisor is needed for them.
 *
 * When the arena has no room for other guests' pages, pages here are unmapped before the frontend
 * asks for it. It can't tell, except by the time that packets take: such pages are copied by the
 * hypervisor, as all others are. So the frontend's grants end as it deletes them.
 */
import type { ArenaShare, GrantTable } from '@xenkit/grant'
import { ArenaFullError, closeAll, GrantError, type MappedPages } from '@xenkit/hypervisor'

/** Most pages of a queue: a page of each slot of its two rings. 2 MiB. */
export const MAX_STATIC_GREFS = 512

/** A grant to add. */
export interface StaticGref {
  readonly gref: number
  readonly writable: boolean
}

/** Pages that were mapped by one call, and are unmapped together. */
interface Run {
  readonly pages: readonly AddedPage[]
  readonly mapped: MappedPages
  readonly cost: number
}

/** A page that the frontend has added. */
interface AddedPage extends StaticGref {
  /** Offset in the arena's buffer. Undefined: unmapped, to make room. */
  offset: number | undefined
}

/** Options of `StaticGrefs`. */
export interface StaticGrefsOptions {
  readonly domid: number
  readonly grants: GrantTable
  readonly share: ArenaShare
  /** Called when pages that make room for others can't be unmapped. */
  readonly failed: (error: unknown) => void
}

/** One queue's pages that stay mapped. */
export class StaticGrefs implements Disposable {
  readonly #o: StaticGrefsOptions
  /** The key is a grant reference as an int32, which compiled code looks up. */
  readonly #pages = new Map<number, AddedPage>()
  readonly #runs = new Set<Run>()

  constructor(o: StaticGrefsOptions) {
    this.#o = o
    o.share.canGive((cached) => this.#reclaim(cached))
  }

  /** Number of pages that the frontend has added and not deleted. */
  get size(): number {
    return this.#pages.size
  }

  /**
   * Looks up a grant's page. The guest may change its bytes at any time: copy them before they are
   * looked at.
   * @param write whether it will be written to
   * @returns its offset in the arena's buffer, until the next event. Undefined: copy by the
   *   hypervisor
   */
  lookup(gref: number, write: boolean): number | undefined {
    const page = this.#pages.get(gref | 0)
    return page === undefined || (write && !page.writable) ? undefined : page.offset
  }

  /**
   * Maps pages, all or none.
   * @returns false if one is added already, there are too many, or they can't be mapped
   */
  add(grefs: readonly StaticGref[]): boolean {
    const added = new Map(grefs.map(({ gref }) => [gref | 0, 0]))
    const isNew = [...added.keys()].every((key) => !this.#pages.has(key))
    if (!isNew || added.size < grefs.length) return false
    if (grefs.length > MAX_STATIC_GREFS - this.#pages.size) return false
    const pages = grefs.map((gref) => ({ ...gref, offset: undefined }))
    const runs: Run[] = []
    for (const group of groupsOf(pages)) {
      const run = this.#map(group)
      if (run === undefined) {
        for (const other of runs) this.#unmap(other)
        return false
      }
      runs.push(run)
    }
    for (const page of pages) this.#pages.set(page.gref | 0, page)
    return true
  }

  /** Unmaps pages. @returns for each, whether it had been added */
  delete(grefs: readonly number[]): boolean[] {
    const deleted = grefs.map((gref) => this.#pages.delete(gref | 0))
    // A run is unmapped as a whole. What is left of it is mapped again, if the guest still lets us.
    for (const run of this.#runs) {
      const left = run.pages.filter(({ gref }) => this.#pages.has(gref | 0))
      if (left.length === run.pages.length) continue
      this.#unmap(run)
      if (left.length > 0) this.#map(left)
    }
    return deleted
  }

  /** Unmaps all pages. @throws GrantError if some can't be unmapped, once all the others are */
  close(): void {
    this.#pages.clear()
    closeAll([...this.#runs].map((run) => ({ close: () => this.#unmap(run) })))
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** Maps one or more pages. @returns undefined if the guest or the arena doesn't let us */
  #map(pages: readonly AddedPage[]): Run | undefined {
    const { domid, grants, share } = this.#o
    const cost = share.costOf(pages.length)
    if (!share.cache(cost)) return undefined
    try {
      const refs = pages.map(({ gref }) => ({ domid, gref }))
      const writable = pages[0]?.writable === true
      const mapped = grants.mapPages(refs, { writable, live: true })
      const run = { pages, mapped, cost }
      for (const [i, page] of pages.entries()) page.offset = mapped.offsets[i]
      this.#runs.add(run)
      return run
    } catch (error) {
      share.uncache(cost)
      if (error instanceof GrantError || error instanceof ArenaFullError) return undefined
      throw error
    }
  }

  #unmap(run: Run): void {
    // Room for another run may have been made from this one.
    if (!this.#runs.delete(run)) return
    for (const page of run.pages) page.offset = undefined
    try {
      run.mapped.close()
    } finally {
      this.#o.share.uncache(run.cost)
    }
  }

  #reclaim(cached: number): void {
    const { share, failed } = this.#o
    const goal = share.cached - cached
    for (const run of this.#runs) {
      if (share.cached <= goal) return
      try {
        this.#unmap(run)
      } catch (error) {
        failed(error)
      }
    }
  }
}

/** Pages that may be written to, and ones that may only be read: a call maps one kind. */
const groupsOf = (pages: readonly AddedPage[]): AddedPage[][] =>
  [true, false]
    .map((writable) => pages.filter((page) => page.writable === writable))
    .filter(({ length }) => length > 0)
