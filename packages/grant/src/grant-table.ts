/**
 * `GrantTable`: the granted pages that one owner uses. Follows xen/include/public/grant_table.h.
 */
import {
  ArenaFullError,
  closeAll,
  GrantError,
  type GrantMapping,
  type GrantPort,
  type GrantRef,
  type GrantShare,
  type MapPagesOptions,
  type MappedPages,
  PAGE_SIZE,
} from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'
import type { ArenaShare } from './arena-share.ts'
import { GrantCopier } from './grant-copier.ts'
import { sleep } from './sleep.ts'
import { TrackedMapping, TrackedPages, TrackedShare } from './tracked-pages.ts'

/**
 * Delays between attempts to map, 255 ms in total. In this time the other domain's page may be
 * paged in, or requests that fill the arena may complete.
 */
const DELAYS_MS = [1, 2, 4, 8, 16, 32, 64, 128]

/** Options of `GrantTable.map`. */
export interface MapOptions {
  readonly writable: boolean
  /** Aborts the wait for pages that are paged out. */
  readonly signal?: AbortSignal
}

/** Attempts of `mapPages`, which doesn't wait between them. */
const TRIES = 8

/** Numbers of open mappings, shares and copiers, and of all retries so far. */
export interface GrantStats {
  readonly mappings: number
  readonly mappedPages: number
  readonly shares: number
  readonly sharedPages: number
  readonly copiers: number
  /**
   * Attempts repeated because of GNTST_eagain (maps and copies) or because the arena was full
   * (maps).
   */
  readonly retries: number
}

/**
 * The grants that one owner, such as a device's connection, uses. Closing the table closes
 * everything that was mapped, shared or opened through it, so that a connection that fails half-way
 * leaves nothing behind (XSA-371). The hypervisor's `grants` stay open.
 *
 * @example
 * using grants = new GrantTable(hv.grants)
 * using page = await grants.map([{ domid, gref }], { writable: true })
 */
export class GrantTable implements Disposable {
  readonly #port: GrantPort
  readonly #share: ArenaShare | undefined
  readonly #mappings = new Set<TrackedMapping | TrackedPages>()
  readonly #shares = new Set<GrantShare>()
  readonly #copiers = new Set<GrantCopier>()
  #retries = 0
  #closed = false

  /**
   * @param share accounts for the arena's pages that this table takes, and makes other connections
   * give up idle ones. Without it a full arena is an error immediately.
   */
  constructor(port: GrantPort, share?: ArenaShare) {
    this.#port = port
    this.#share = share
  }

  get stats(): GrantStats {
    return {
      mappings: this.#mappings.size,
      mappedPages: pagesOf(this.#mappings),
      shares: this.#shares.size,
      sharedPages: pagesOf(this.#shares),
      copiers: this.#copiers.size,
      retries: this.#retries,
    }
  }

  /**
   * Maps pages that other domains granted, all or none, contiguously in the order of `refs`. The
   * call waits up to 255 ms for pages that are paged out, and for room in a full arena.
   * @throws GrantError naming the first ref that failed and its status; nothing stays mapped
   * @throws ArenaFullError when there is no room
   * @throws TypeError once the table is closed
   * @throws the signal's reason when it aborts
   */
  async map(refs: readonly GrantRef[], { writable, signal }: MapOptions): Promise<GrantMapping> {
    for (let tries = 0; ; tries++) {
      this.#expectOpen()
      signal?.throwIfAborted()
      try {
        return this.#map(refs, writable)
      } catch (error) {
        const ms = DELAYS_MS[tries]
        if (ms === undefined || !(isEagain(error) || error instanceof ArenaFullError)) throw error
        this.#retries++
        await sleep(ms, signal)
      }
    }
  }

  /**
   * Maps pages, all or none, each wherever there is room. The call never waits: it tries a
   * paged-out page 8 times, then fails.
   * @throws GrantError naming the first ref that failed and its status; nothing stays mapped
   * @throws ArenaFullError when there is no room
   * @throws TypeError once the table is closed
   */
  mapPages(refs: readonly GrantRef[], o: MapPagesOptions): MappedPages {
    this.#expectOpen()
    for (let tries = 1; ; tries++) {
      try {
        const mapped = this.#fit(() => this.#port.mapPages(refs, o))
        const pages = new TrackedPages(mapped, () => this.#mappings.delete(pages))
        this.#mappings.add(pages)
        return pages
      } catch (error) {
        if (tries === TRIES || !isEagain(error)) throw error
        this.#retries++
      }
    }
  }

  /**
   * Allocates zeroed pages and grants them to `domid`.
   * @throws GrantError when grants or pages are used up
   * @throws TypeError once the table is closed
   */
  share(o: {
    readonly domid: number
    readonly pages: number
    readonly writable: boolean
  }): GrantShare {
    this.#expectOpen()
    const share = new TrackedShare(this.#port.share(o), () => this.#shares.delete(share))
    this.#shares.add(share)
    return share
  }

  /**
   * Opens arrays that describe up to `capacity` (1..65536) copies from and to pages of one domain.
   * @throws TypeError once the table is closed
   */
  openCopier(o: { readonly domid: number; readonly capacity: number }): GrantCopier {
    this.#expectOpen()
    const copier = new GrantCopier(
      this.#fit(() => this.#port.openCopyBatch(o)),
      {
        retried: () => this.#retries++,
        closed: () => this.#copiers.delete(copier),
      },
    )
    this.#copiers.add(copier)
    return copier
  }

  /**
   * Closes everything that the table has open. Idempotent.
   * @throws the first error, once all the others are closed
   */
  close(): void {
    this.#closed = true
    closeAll([...this.#copiers, ...this.#mappings, ...this.#shares])
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #map(refs: readonly GrantRef[], writable: boolean): GrantMapping {
    const mapped = this.#fit(() => this.#port.map(refs, { writable }))
    const mapping = new TrackedMapping(mapped, () => this.#mappings.delete(mapping))
    this.#mappings.add(mapping)
    return mapping
  }

  #fit<T>(take: () => T): T {
    return this.#share ? this.#share.fit(take) : take()
  }

  #expectOpen(): void {
    if (this.#closed) throw new TypeError('the grant table is closed')
  }
}

const isEagain = (error: unknown): boolean =>
  error instanceof GrantError && error.status === GNTST.eagain

const pagesOf = (all: Iterable<GrantMapping | GrantShare | TrackedPages>): number => {
  let pages = 0
  for (const each of all) {
    pages += 'offsets' in each ? each.offsets.length : each.bytes.length / PAGE_SIZE
  }
  return pages
}
