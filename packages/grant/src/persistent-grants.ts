/**
 * Pages of one domain that stay mapped from one use to the next: feature-persistent of
 * xen/include/public/io/blkif.h. The other domain promises to use the same references again and to
 * let them be mapped writable; it is not told which are mapped and must not care.
 *
 * Pages that are mapped together are a run: one call maps them, they are one memory area of the
 * process, and they go together. When the cache is full, the runs that were used longest ago go. So
 * do those that were not used for a minute: a timer runs while there is anything to watch.
 */
import { closeAll, type MappedPages } from '@xenkit/hypervisor'
import type { ArenaShare } from './arena-share.ts'
import type { GrantTable } from './grant-table.ts'

const UNUSED_MS = 60_000

/** Part of a full cache that goes at once: to look for what was used longest ago takes a while. */
const EVICTED = 1 / 20

interface Run {
  readonly pages: MappedPages
  readonly grefs: readonly number[]
  /** Where the cache keeps what it knows of each page. The first is the run's own place. */
  readonly places: readonly number[]
}

export interface PersistentGrantsOptions {
  readonly domid: number
  /** Most pages that stay mapped, 1..65535. */
  readonly capacity: number
  /** Called when a run that is given up can't be unmapped. */
  readonly failed: (error: unknown) => void
  /** Told by how much `size` changed. */
  readonly counted?: (change: number) => void
}

export class PersistentGrants implements Disposable {
  readonly #grants: GrantTable
  readonly #share: ArenaShare
  readonly #o: PersistentGrantsOptions
  /** By reference. */
  readonly #places = new Map<number, number>()
  readonly #free: number[]
  /** By place of a page: where it lies in the arena, and its run. */
  readonly #offset: Uint32Array
  readonly #run: Uint16Array
  /** By place of a run: uses that have not ended, and which of all was its latest. */
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

  /** Pages mapped now. */
  get size(): number {
    return this.#places.size
  }

  /** @returns the place of a reference's page, for `use` at once; undefined if it isn't mapped */
  find(gref: number): number | undefined {
    // As an int32 it is looked for by compiled code, as a u32 by a call.
    return this.#places.get(gref | 0)
  }

  /**
   * Keeps the page at a place mapped until `end`.
   * @returns where it begins in the arena's buffer
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
   * Maps pages as one run. Pages that nobody uses may have to go for them.
   * @param grefs that `find` doesn't find, each once
   * @returns false if there is no room
   * @throws GrantError, ArenaFullError if they can't be mapped writable
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
   * Unmaps all. Idempotent.
   * @throws GrantError if one can't be unmapped, once all others are
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

  /** Runs that nobody uses; what was used longest ago is first. */
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

  /** Gives up a run in the middle of something else. */
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
