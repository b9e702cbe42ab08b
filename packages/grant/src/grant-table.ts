/** Granted pages and who holds them. Follows xen/include/public/grant_table.h. */
import {
  closeAll, GrantError, type GrantMapping, type GrantPort, type GrantRef, type GrantShare,
  PAGE_SIZE,
} from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'
import { GrantCopier } from './grant-copier.ts'
import { sleep } from './sleep.ts'
import { TrackedMapping, TrackedShare } from './tracked-pages.ts'

/** Between the tries of a map that answers GNTST_eagain, 255 ms together: the page has to come from a disk. */
const EAGAIN_DELAYS_MS = [1, 2, 4, 8, 16, 32, 64, 128]

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
  /** Maps and copies made again because of GNTST_eagain. */
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
  readonly #mappings = new Set<GrantMapping>()
  readonly #shares = new Set<GrantShare>()
  readonly #copiers = new Set<GrantCopier>()
  #retries = 0
  #closed = false

  constructor(port: GrantPort) {
    this.#port = port
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
   * aren't in memory are waited for, a quarter of a second at most.
   * @throws GrantError naming the first ref that failed and its status; nothing stays mapped
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
        const ms = EAGAIN_DELAYS_MS[tries]
        if (ms === undefined || !isEagain(error)) throw error
        this.#retries++
        await sleep(ms, signal)
      }
    }
  }

  /**
   * Maps as `map` does, but waits for nothing, as a copier does not: a page that isn't in memory
   * is there after a few tries or the call fails.
   */
  mapNow(refs: readonly GrantRef[], { writable }: { readonly writable: boolean }): GrantMapping {
    this.#expectOpen()
    for (let tries = 1; ; tries++) {
      try {
        return this.#map(refs, writable)
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
  share(o: { readonly domid: number; readonly pages: number; readonly writable: boolean }): GrantShare {
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
    const copier = new GrantCopier(this.#port.openCopyBatch(o), {
      retried: () => this.#retries++,
      closed: () => this.#copiers.delete(copier),
    })
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
    const mapping = new TrackedMapping(this.#port.map(refs, { writable }), () => this.#mappings.delete(mapping))
    this.#mappings.add(mapping)
    return mapping
  }

  #expectOpen(): void {
    if (this.#closed) throw new TypeError('the grant table is closed')
  }
}

const isEagain = (error: unknown): boolean => error instanceof GrantError && error.details['status'] === GNTST.eagain

const pagesOf = (all: Iterable<GrantMapping | GrantShare>): number => {
  let bytes = 0
  for (const { bytes: { byteLength } } of all) bytes += byteLength
  return bytes / PAGE_SIZE
}
