/** Granted pages and who holds them. Follows xen/include/public/grant_table.h. */
import {
  ArenaFullError,
  closeAll,
  GrantError,
  type GrantMapping,
  type GrantPort,
  type GrantRef,
  type GrantShare,
  type MappedPages,
  PAGE_SIZE,
} from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'
import type { ArenaShare } from './arena-share.ts'
import { GrantCopier } from './grant-copier.ts'
import { sleep } from './sleep.ts'
import { TrackedMapping, TrackedPages, TrackedShare } from './tracked-pages.ts'

/**
 * Between the tries of a map, 255 ms together: a page has to come from a disk, or requests that
 * take up the arena have to end.
 */
const DELAYS_MS = [1, 2, 4, 8, 16, 32, 64, 128]

export interface MapOptions {
  readonly writable: boolean
  /** Gives up waiting for pages that aren't in memory. */
  readonly signal?: AbortSignal
}

/** Tries of a map that doesn't wait. */
const TRIES = 8

/** What is open now, and the retries so far. */
export interface GrantStats {
  readonly mappings: number
  readonly mappedPages: number
  readonly shares: number
  readonly sharedPages: number
  readonly copiers: number
  /** Maps and copies made again because of GNTST_eagain, and maps because the arena was full. */
  readonly retries: number
}

/**
 * A domain's dealings with granted pages, counted. What is mapped, shared or open for copying
 * belongs to the table and ends with it, so that a connection that fails half-way leaves nothing
 * behind (XSA-371). It works over the `grants` of a hypervisor, which it doesn't close.
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

  /** @param share in whose name pages of the arena are taken: others give up idle ones for them */
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
   * Maps pages that other domains granted, all or none, contiguously and in order. Pages that
   * aren't in memory are waited for, a quarter of a second at most, and so is room in a full arena.
   * @throws GrantError naming the first ref that failed and its status; nothing stays mapped
   * @throws ArenaFullError when there is no room
   * @throws TypeError once the table is closed
   * @throws the signal's reason when that aborts
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
   * Maps pages wherever there is room, all or none, and waits for nothing, as a copier does not:
   * a page that isn't in memory is there after a few tries or the call fails.
   * @throws GrantError, TypeError as `map` does
   * @throws ArenaFullError when there is no room
   */
  mapPages(refs: readonly GrantRef[], o: { readonly writable: boolean }): MappedPages {
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
   * Opens arrays for up to `capacity` (1..65536) copies at a time from and to pages of one domain.
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
   * Closes all that is open. A pinned mapping goes, and leaves `stats`, with its last pin.
   * Idempotent.
   * @throws the first error of those that could not be closed, once all others are
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
  error instanceof GrantError && error.details['status'] === GNTST.eagain

const pagesOf = (all: Iterable<GrantMapping | GrantShare | TrackedPages>): number => {
  let pages = 0
  for (const each of all) {
    pages += 'offsets' in each ? each.offsets.length : each.bytes.length / PAGE_SIZE
  }
  return pages
}
