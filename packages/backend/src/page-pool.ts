/**
 * A pool of buffers for devices whose data is copied. A buffer is a run of pages of one request's
 * length. Buffers come from extents of the arena, which are allocated on demand and freed when the
 * device is idle. An idle device has none, one with small requests a small one, a busy one a few
 * large ones as well.
 *
 * A request that finds no room waits, and later requests wait behind it. The largest request fits
 * an empty extent, so it gets a buffer in the end however many small ones other rings send. Buffers
 * are freed when requests are answered, which takes no buffer: there is no deadlock.
 *
 * The pool grows only within its domain's share of the arena, unless no extent is large enough for
 * the request. If the arena is full, the request waits until requests of other devices complete.
 */
import type { ArenaShare } from '@xenkit/grant'
import { ArenaFullError, closeAll, PAGE_SIZE, type Pages } from '@xenkit/hypervisor'
import { IdleTimer } from './idle-timer.ts'

/** Time without a request after which extents are freed, in milliseconds. */
const KEEP_IDLE_MS = 1_000

/** Sizes of a pool's extents, in pages. */
export interface ExtentSizes {
  /** Enough for a device with small requests. */
  readonly small: number
  /** Enough for the largest request of the device. */
  readonly large: number
  /** Most large extents at a time: 1 or more. */
  readonly maxLarge: number
}

/** A run of pages that is lent to one request. Reused: one object per first page. */
export interface Buffer {
  readonly extent: Extent
  /** First page of the run within its extent. */
  readonly first: number
  pages: number
}

/** Lends runs of pages from the arena to the requests of one device. */
export class PagePool {
  readonly #share: ArenaShare
  readonly #sizes: ExtentSizes
  readonly #failed: (error: unknown) => void
  readonly #extents: Extent[] = []
  readonly #waiting: (() => void)[] = []
  readonly #idle = new IdleTimer(KEEP_IDLE_MS, () => this.#shrink())
  #wakePlanned = false
  readonly #freed = (): void => this.#planWake()

  /** @param failed called when pages can't be freed */
  constructor(share: ArenaShare, sizes: ExtentSizes, failed: (error: unknown) => void) {
    this.#share = share
    this.#sizes = sizes
    this.#failed = failed
    share.canGive(() => this.#freeIdle())
  }

  /** Pages that the pool has allocated from the arena. */
  get pages(): number {
    return this.#extents.reduce((sum, { size }) => sum + size, 0)
  }

  /**
   * Lends a buffer of at least `bytes` bytes.
   * @param wake identifies the caller, and is called when another attempt may succeed
   * @returns undefined if there is no room, or another caller has waited longer
   * @throws ArenaFullError if the arena is full and no request is in flight to wait for
   */
  take(bytes: number, wake: () => void): Buffer | undefined {
    const mayTake = this.#waiting.length === 0 || this.#waiting[0] === wake
    const buffer = mayTake ? this.#find(Math.ceil(bytes / PAGE_SIZE), wake) : undefined
    if (buffer) {
      this.#idle.use()
      this.forget(wake)
    } else if (!this.#waiting.includes(wake)) {
      this.#waiting.push(wake)
    }
    return buffer
  }

  /** Takes a buffer back. */
  give(buffer: Buffer): void {
    const { extent } = buffer
    extent.give(buffer)
    if (extent.used === 0) this.#share.freed()
    this.#planWake()
  }

  /** Removes a caller from the queue, if it waits there. */
  forget(wake: () => void): void {
    const at = this.#waiting.indexOf(wake)
    if (at >= 0) this.#waiting.splice(at, 1)
    this.#planWake()
  }

  close(): void {
    this.#idle.stop()
    this.#waiting.length = 0
    this.#free(this.#extents.splice(0))
  }

  #find(pages: number, wake: () => void): Buffer | undefined {
    for (const extent of this.#extents) {
      const buffer = extent.take(pages)
      if (buffer) return buffer
    }
    try {
      return this.#grow(pages)?.take(pages)
    } catch (error) {
      if (!(error instanceof ArenaFullError)) throw error
      if (this.#fits(pages) || this.#share.whenFree(this.#freed)) return undefined
      this.forget(wake)
      throw error
    }
  }

  /** Whether an extent is large enough for so many pages once its buffers are returned. */
  #fits(pages: number): boolean {
    return this.#extents.some(({ size }) => size >= pages)
  }

  #grow(pages: number): Extent | undefined {
    const large = this.#extents.filter(({ size }) => size === this.#sizes.large).length
    const small = pages <= this.#sizes.small && large === this.#extents.length
    const size = small ? this.#sizes.small : this.#sizes.large
    if (!small && large === this.#sizes.maxLarge) return undefined
    if (this.#fits(pages) && !this.#share.mayWork(size)) return undefined
    const extent = new Extent(this.#share.allocate(size), size)
    this.#share.work(size)
    // The small extent is the first one to be searched.
    if (small) this.#extents.unshift(extent)
    else this.#extents.push(extent)
    return extent
  }

  /** Wakes the longest-waiting caller. Deferred: it may be in the middle of its own turn. */
  #planWake(): void {
    if (this.#waiting.length === 0 || this.#wakePlanned) return
    this.#wakePlanned = true
    queueMicrotask(() => {
      this.#wakePlanned = false
      this.#waiting[0]?.()
    })
  }

  #free(extents: readonly Extent[]): void {
    try {
      closeAll(extents)
    } finally {
      this.#share.rest(extents.reduce((sum, { size }) => sum + size, 0))
    }
  }

  #freeIdle(): void {
    const idle = this.#extents.filter(({ used }) => used === 0)
    if (idle.length === 0) return
    for (const extent of idle) this.#extents.splice(this.#extents.indexOf(extent), 1)
    try {
      this.#free(idle)
    } catch (error) {
      this.#failed(error)
    }
  }

  #shrink(): void {
    this.#freeIdle()
    // Extents in use are checked again after another period.
    if (this.#extents.length > 0) this.#idle.use()
  }
}

/** An allocation of the arena, lent out in shorter runs. */
class Extent {
  /** In pages. */
  readonly size: number
  used = 0
  readonly #pages: Pages
  readonly #taken: Uint8Array
  /** Buffers by their first page, created when first lent. */
  readonly #buffers: (Buffer | undefined)[]

  constructor(pages: Pages, size: number) {
    this.size = size
    this.#pages = pages
    this.#taken = new Uint8Array(size)
    this.#buffers = Array.from({ length: size })
  }

  /** Lends the first free run that is long enough. */
  take(pages: number): Buffer | undefined {
    if (this.used + pages > this.size) return undefined
    for (let first = 0, page = 0; first + pages <= this.size;) {
      if (this.#taken[page] === 1) first = ++page
      else if (++page - first === pages) {
        this.#taken.fill(1, first, page)
        this.used += pages
        const buffer = (this.#buffers[first] ??= { extent: this, first, pages })
        buffer.pages = pages
        return buffer
      }
    }
    return undefined
  }

  give({ first, pages }: Buffer): void {
    this.#taken.fill(0, first, first + pages)
    this.used -= pages
  }

  /** Byte offset in the arena of a page. */
  byteOffset(first: number): number {
    return this.#pages.byteOffset + first * PAGE_SIZE
  }

  view(first: number, bytes: number): Uint8Array {
    return this.#pages.bytes.subarray(first * PAGE_SIZE, first * PAGE_SIZE + bytes)
  }

  close(): void {
    this.#pages.close()
  }
}
