/**
 * What one connection holds of an arena on behalf of another domain, so that one domain's pages
 * don't keep those of the others out.
 *
 * Half of the arena is for pages that stay mapped between requests. When that half is full, the
 * domain that has most of it gives up idle pages. Data of pages that find no room there is copied.
 *
 * The other half is for requests in flight. Each domain may have an equal part of it at a time, and
 * one more part stays free for the next domain that connects.
 */
import { type Arena, ArenaFullError, type ArenaTenant, type Pages } from '@xenkit/hypervisor'

/** Cached pages that are given up between two attempts to find room in a full arena. */
const STEP = 64

export class ArenaShare implements ArenaTenant, Disposable {
  readonly domid: number
  readonly #arena: Arena
  readonly #givers = new Set<(cached: number) => void>()
  #cached = 0
  #working = 0

  constructor(arena: Arena, domid: number) {
    this.#arena = arena
    this.domid = domid
    arena.tenants.add(this)
  }

  get cached(): number {
    return this.#cached
  }

  get working(): number {
    return this.#working
  }

  /** @param give gives back idle pages: so many cached ones, if there are, and all idle buffers */
  canGive(give: (cached: number) => void): void {
    this.#givers.add(give)
  }

  reclaim(cached: number): void {
    const goal = this.#cached - cached
    for (const give of this.#givers) give(Math.max(0, this.#cached - goal))
  }

  /**
   * What a mapping that stays takes of the arena: its pages, or as many as there are for each
   * mapping that the process can have, since small ones use up those first.
   */
  costOf(pages: number): number {
    return Math.max(pages, Math.floor(this.#arena.pages / this.#arena.mappings))
  }

  /**
   * Takes room for pages that are to stay mapped, which others may have to give up idle ones for.
   * @param cost of `costOf`
   * @returns whether there is any
   */
  cache(cost: number): boolean {
    const { tenants, pages } = this.#arena
    const missing = (): number => sum(tenants, 'cached') + cost - pages / 2
    if (missing() > 0) {
      const held = this.#cachedByDomain()
      const own = (held.get(this.domid) ?? 0) + cost
      held.set(this.domid, own)
      const most = [...held].filter(([domid, cached]) => domid === this.domid || cached > own)
      for (const [domid] of most.toSorted(([, a], [, b]) => b - a)) {
        for (const tenant of tenants) {
          if (missing() > 0 && tenant.domid === domid) tenant.reclaim(missing())
        }
      }
      if (missing() > 0) return false
    }
    this.#cached += cost
    return true
  }

  /** Pages are mapped no more. */
  uncache(cost: number): void {
    this.#cached -= cost
    this.freed()
  }

  /** Whether a request may have so many pages more, or should wait for others in flight. */
  mayWork(pages: number): boolean {
    const { tenants, pages: all } = this.#arena
    const domains = new Set<number>()
    let working = 0
    for (const tenant of tenants) {
      domains.add(tenant.domid)
      if (tenant.domid === this.domid) working += tenant.working
    }
    return working + pages <= all / 2 / (domains.size + 1)
  }

  /** Counts pages for requests in flight. */
  work(pages: number): void {
    this.#working += pages
  }

  /** They are given back. */
  rest(pages: number): void {
    this.#working -= pages
    this.freed()
  }

  /** Allocates pages of this domain's own; else as `fit`. */
  allocate(pages: number): Pages {
    return this.fit(() => this.#arena.allocate(pages))
  }

  /**
   * Runs what takes pages of the arena. Where there is no room, idle pages are given up until there
   * is: those of the tenant that has most cached ones first.
   * @throws ArenaFullError when no page is idle any more
   */
  fit<T>(take: () => T): T {
    try {
      return take()
    } catch (error) {
      if (!(error instanceof ArenaFullError)) throw error
    }
    for (const tenant of [...this.#arena.tenants].toSorted((a, b) => b.cached - a.cached)) {
      for (let before = Infinity; tenant.cached < before;) {
        before = tenant.cached
        tenant.reclaim(STEP)
        try {
          return take()
        } catch (error) {
          if (!(error instanceof ArenaFullError)) throw error
        }
      }
    }
    return take()
  }

  /**
   * Has `wake` called once when pages come free. To be called when `fit` found no room: what is
   * cached still is in use.
   * @returns false if no request of anybody is in flight: none will
   */
  whenFree(wake: () => void): boolean {
    const { tenants, waiting } = this.#arena
    if (sum(tenants, 'working') + sum(tenants, 'cached') === 0) return false
    waiting.add(wake)
    return true
  }

  /** Tells who waits that pages came free, or idle: those are given up on demand. */
  freed(): void {
    const { waiting } = this.#arena
    if (waiting.size === 0) return
    const woken = [...waiting]
    waiting.clear()
    // Not within the call that frees: who waits may be in the middle of its own turn.
    queueMicrotask(() => {
      for (const wake of woken) wake()
    })
  }

  /** Everything of it has been given back. Idempotent. */
  close(): void {
    this.#arena.tenants.delete(this)
    this.freed()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #cachedByDomain(): Map<number, number> {
    const held = new Map<number, number>()
    for (const { domid, cached } of this.#arena.tenants) {
      held.set(domid, (held.get(domid) ?? 0) + cached)
    }
    return held
  }
}

function sum(tenants: Iterable<ArenaTenant>, what: 'cached' | 'working'): number {
  let pages = 0
  for (const tenant of tenants) pages += tenant[what]
  return pages
}
