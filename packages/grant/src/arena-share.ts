/**
 * One connection's share of the arena. It keeps one domain's pages from crowding out the others'.
 *
 * Half of the arena is for pages that stay mapped between requests (cached). When that half is
 * full, the domain with most of it gives up idle pages. Pages that find no room there are copied
 * instead.
 *
 * The other half is for requests in flight (working). It is divided equally: with n connected
 * domains, each may use 1/(n + 1) of it, so that one part is free for the next domain.
 */
import { type Arena, ArenaFullError, type ArenaTenant, type Pages } from '@xenkit/hypervisor'

/**
 * Cached pages that a tenant (a connection that uses the arena) gives up between two attempts to
 * find room in a full arena.
 */
const STEP = 64

/** The share of the arena that one connection uses. All connections of a thread share one arena. */
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

  /**
   * Registers a function that gives up idle pages, for `reclaim` to call.
   * @param give gives up to `cached` cached pages, and all idle buffers
   */
  canGive(give: (cached: number) => void): void {
    this.#givers.add(give)
  }

  /** Gives up idle pages: up to `cached` of the cached ones, and all idle buffers. */
  reclaim(cached: number): void {
    const goal = this.#cached - cached
    for (const give of this.#givers) give(Math.max(0, this.#cached - goal))
  }

  /**
   * Returns how many pages of the arena a lasting mapping is charged for. This is at least the
   * arena's pages divided by the mappings that the process can have: small mappings exhaust those
   * first.
   */
  costOf(pages: number): number {
    return Math.max(pages, Math.floor(this.#arena.pages / this.#arena.mappings))
  }

  /**
   * Takes room for a lasting mapping. Domains with more cached pages may have to give up idle ones.
   * @param cost result of `costOf`
   * @returns whether there is room
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

  /**
   * Returns the room of a mapping that has ended.
   * @param cost the value that was passed to `cache`
   */
  uncache(cost: number): void {
    this.#cached -= cost
    this.freed()
  }

  /**
   * Whether a request may use `pages` more pages. If not, it should wait until requests in flight
   * complete.
   */
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

  /** Counts pages that a request in flight uses. */
  work(pages: number): void {
    this.#working += pages
  }

  /** Counts pages as unused again, when their request completes. */
  rest(pages: number): void {
    this.#working -= pages
    this.freed()
  }

  /** Allocates pages that no other domain sees. Makes room and throws as `fit` does. */
  allocate(pages: number): Pages {
    return this.fit(() => this.#arena.allocate(pages))
  }

  /**
   * Runs `take`, which takes pages of the arena. While the arena is full, connections give up idle
   * pages, starting with the one that has most cached pages.
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
   * Calls `wake` once, when pages come free. Call this after `fit` found no room.
   * @returns false if no page is cached or in flight, so that none will come free
   */
  whenFree(wake: () => void): boolean {
    const { tenants, waiting } = this.#arena
    if (sum(tenants, 'working') + sum(tenants, 'cached') === 0) return false
    waiting.add(wake)
    return true
  }

  /**
   * Wakes waiting connections because pages were freed or became idle. `fit` makes the idle ones
   * free.
   */
  freed(): void {
    const { waiting } = this.#arena
    if (waiting.size === 0) return
    const woken = [...waiting]
    waiting.clear()
    // Deferred to a microtask: a waiting connection may be serving its ring at this moment.
    queueMicrotask(() => {
      for (const wake of woken) wake()
    })
  }

  /** Removes this connection from the arena, after its pages were returned. Idempotent. */
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
