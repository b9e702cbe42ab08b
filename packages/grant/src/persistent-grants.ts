/**
 * Cache of one domain's pages that stay mapped between requests: feature-persistent of
 * xen/include/public/io/blkif.h. The other domain promises to reuse its grant references and to let
 * them be mapped writable. It can't know which pages are mapped, and must not depend on it.
 *
 * Pages that are mapped by one call form a run: they are one memory area of the process, and are
 * evicted together. A full cache evicts the least recently used runs. A timer, which runs while the
 * cache isn't empty, evicts runs that were unused for a minute.
 */
import { closeAll, type MappedPages } from '@xenkit/hypervisor'
import type { ArenaShare } from './arena-share.ts'
import type { GrantTable } from './grant-table.ts'

/** Milliseconds without a use after which a run is evicted. The eviction may take twice as long. */
const UNUSED_MS = 60_000

/**
 * Part of a full cache that one eviction frees. Sorting the runs by last use takes time, so an
 * eviction frees more than one run.
 */
const EVICTED = 1 / 20

interface Run {
  readonly pages: MappedPages
  readonly grefs: readonly number[]
  /**
   * Places (indices into the cache's arrays) of the run's pages. The first place identifies the
   * run.
   */
  readonly places: readonly number[]
}

/** Options of `PersistentGrants`. */
export interface PersistentGrantsOptions {
  readonly domid: number
  /** Most pages that stay mapped, 1..65535. */
  readonly capacity: number
  /** Called when an evicted run can't be unmapped. */
  readonly failed: (error: unknown) => void
  /** Called with the change of `size` after pages were mapped or unmapped. */
  readonly counted?: (change: number) => void
}

/** A least-recently-used cache of one domain's mapped pages. Each ring has its own. */
export class PersistentGrants implements Disposable {
  readonly #grants: GrantTable
  readonly #share: ArenaShare
  readonly #o: PersistentGrantsOptions
  /** Maps a grant reference (as an int32) to the place of its page. */
  readonly #places = new Map<number, number>()
  readonly #free: number[]
  /** Indexed by a page's place: its offset in the arena, and the place of its run. */
  readonly #offset: Uint32Array
  readonly #run: Uint16Array
  /** Indexed by a run's place: uses in flight, and the number of the run's latest use. */
  readonly #users: Uint32Array
  readonly #lastUse: Float64Array
  readonly #runs = new Map<number, Run>()
  #uses = 0
  #usesAtLastSweep = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #closed = false

  constructor(grants: GrantTable, share: ArenaShare, o: PersistentGrantsOptions) {
    this.#grants = grants
    this.#share = share
    this.#o = o
    this.#free = Array.from({ length: o.capacity }, (_, i) => o.capacity - 1 - i)
    this.#offset = new Uint32Array(o.capacity)
    this.#run = new Uint16Array(o.capacity)
    this.#users = new Uint32Array(o.capacity)
    this.#lastUse = new Float64Array(o.capacity)
    share.canGive((cached) => this.#reclaim(cached))
  }

  /** Number of pages that are mapped now. */
  get size(): number {
    return this.#places.size
  }

  /**
   * Looks up the page of a grant reference.
   * @returns its place, to be passed to `use` before anything else happens; undefined if not mapped
   */
  find(gref: number): number | undefined {
    // As an int32, the key is looked up by compiled code; as a u32, by a call.
    return this.#places.get(gref | 0)
  }

  /**
   * Keeps the page at a place mapped until `end`.
   * @returns the offset of its first byte in the arena's buffer
   */
  use(place: number): number {
    const run = this.#run[place] ?? 0
    this.#users[run] = (this.#users[run] ?? 0) + 1
    this.#lastUse[run] = ++this.#uses
    return this.#offset[place] ?? 0
  }

  /** Ends one use of the page at a place. */
  end(place: number): void {
    const run = this.#run[place] ?? 0
    const users = (this.#users[run] ?? 0) - 1
    this.#users[run] = users
    if (users === 0) this.#share.freed()
  }

  /**
   * Maps pages as one run, and evicts unused runs if it needs their room.
   * @param grefs references that aren't in the cache, each once
   * @returns false if there is no room
   * @throws GrantError if they can't be mapped writable
   * @throws ArenaFullError if the arena has no room
   * @throws TypeError once the cache is closed
   */
  add(grefs: readonly number[]): boolean {
    if (this.#closed) throw new TypeError('the cache of persistent grants is closed')
    if (grefs.length > this.#free.length) this.#makeRoom(grefs.length)
    if (grefs.length > this.#free.length) return false
    const cost = this.#share.costOf(grefs.length)
    if (!this.#share.cache(cost)) return false
    let pages
    try {
      const refs = grefs.map((gref) => ({ domid: this.#o.domid, gref }))
      pages = this.#grants.mapPages(refs, { writable: true })
    } catch (error) {
      this.#share.uncache(cost)
      throw error
    }
    this.#keep(pages, grefs)
    return true
  }

  /**
   * Unmaps all pages. Idempotent.
   * @throws GrantError if a run can't be unmapped, once all the other runs are
   */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    closeAll([...this.#runs.values()].map((run) => ({ close: () => this.#unmap(run) })))
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #keep(pages: MappedPages, grefs: readonly number[]): void {
    const places = this.#free.splice(-grefs.length)
    const [first = 0] = places
    for (const [i, place] of places.entries()) {
      this.#places.set((grefs[i] ?? 0) | 0, place)
      this.#offset[place] = pages.offsets[i] ?? 0
      this.#run[place] = first
    }
    this.#users[first] = 0
    this.#lastUse[first] = ++this.#uses
    this.#runs.set(first, { pages, grefs, places })
    this.#o.counted?.(grefs.length)
    this.#watch()
  }

  #makeRoom(pages: number): void {
    const most = Math.max(pages, Math.ceil(this.#o.capacity * EVICTED))
    for (const run of this.#idle()) {
      if (this.#free.length >= most) return
      this.#drop(run)
    }
  }

  #reclaim(cached: number): void {
    if (cached === 0) return
    const goal = this.#share.cached - cached
    for (const run of this.#idle()) {
      if (this.#share.cached <= goal) return
      this.#drop(run)
    }
  }

  /** Runs without a use in flight, least recently used first. */
  #idle(): Run[] {
    const lastUse = ([place]: [number, Run]): number => this.#lastUse[place] ?? 0
    const idle = [...this.#runs].filter(([place]) => this.#users[place] === 0)
    return idle.toSorted((a, b) => lastUse(a) - lastUse(b)).map(([, run]) => run)
  }

  #watch(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#sweep()
    }, UNUSED_MS).unref()
  }

  #sweep(): void {
    for (const run of this.#idle()) {
      if ((this.#lastUse[run.places[0] ?? 0] ?? 0) > this.#usesAtLastSweep) break
      this.#drop(run)
    }
    this.#usesAtLastSweep = this.#uses
    if (this.#runs.size > 0) this.#watch()
  }

  /**
   * Evicts a run and reports an error to `failed`, because the caller is in the middle of other
   * work.
   */
  #drop(run: Run): void {
    try {
      this.#unmap(run)
    } catch (error) {
      this.#o.failed(error)
    }
  }

  #unmap({ pages, grefs, places }: Run): void {
    for (const gref of grefs) this.#places.delete(gref | 0)
    this.#runs.delete(places[0] ?? 0)
    this.#free.push(...places)
    this.#o.counted?.(-grefs.length)
    try {
      pages.close()
    } finally {
      this.#share.uncache(this.#share.costOf(grefs.length))
    }
  }
}
