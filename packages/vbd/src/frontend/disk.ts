/** A disk as its guest uses it. */
import { XenError } from '@xenkit/hypervisor'
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, BLKIF_RSP, VDISK } from '@xenkit/wire'
import type { BlockStore, DiscardLimits, DiscardOptions, SectorSize } from '@xenkit/block-store'
import { hintedDiscardLimits, hintedPhysicalSize, byteLength } from '@xenkit/block-store'
import type { diskNodes } from '../nodes.ts'
import type { DiskRing } from './disk-ring.ts'
import type { GrantedPages } from './granted-pages.ts'
import { type DiskRequest, pagesOf } from './request-encoder.ts'
import { expectWhole, split } from './split.ts'

/**
 * A request that failed: the backend answered with an error, it offers no such operation, or the
 * disk was closed. `details.status` is a BLKIF_RSP code.
 */
export class DiskError extends XenError {
  constructor(message: string, details: { readonly vdev: string; readonly status: number }) {
    super('ERR_XEN_DISK', message, details)
  }
}

/** Parts of a `Disk`, which `openVbd` puts together. */
export interface DiskParts {
  readonly rings: readonly DiskRing[]
  readonly pages: GrantedPages
  /** The backend's nodes that describe the disk. */
  readonly published: Awaited<ReturnType<typeof diskNodes.read>>
  readonly sectorSize: SectorSize
  /** Size of the largest request, in bytes. */
  readonly maxRequest: number
  readonly vdev: string
  /**
   * Closes the device once the backend agrees, or when the signal aborts. Then frees all that the
   * disk used.
   */
  readonly close: (signal: AbortSignal) => Promise<void>
}

/** Largest request whose segments fit into its slot, in bytes. */
export const MAX_PLAIN_REQUEST = BLKIF_MAX_SEGMENTS_PER_REQUEST * 4096

const NAMES: ReadonlyMap<number, string> = new Map([
  [BLKIF_OP.READ, 'read'],
  [BLKIF_OP.WRITE, 'write'],
  [BLKIF_OP.WRITE_BARRIER, 'barrier'],
  [BLKIF_OP.FLUSH_DISKCACHE, 'flush'],
  [BLKIF_OP.DISCARD, 'discard'],
])

/**
 * A disk as its guest uses it, from `openVbd` until `close`. Sectors are always of 512 bytes. Calls
 * may overlap. Each call is split into requests, and settles once the last one is answered.
 *
 * A `Disk` is itself a `BlockStore`, so it can be served again. If it is read-only, plug the disk
 * that serves it as read-only.
 */
export class Disk implements BlockStore, AsyncDisposable {
  readonly sectorSize: SectorSize
  readonly physicalSectorSize: number
  readonly readOnly: boolean
  readonly removable: boolean
  readonly cdrom: boolean
  readonly discardLimits: DiscardLimits
  /**
   * Discards the data of `count` sectors. Undefined if the backend offers no discard.
   * @throws TypeError, RangeError for a range that isn't whole sectors of the disk, or a secure
   *   discard that the backend doesn't offer
   * @throws DiskError if the backend answers with an error
   */
  readonly discard?: (sector: number, count: number, o?: DiscardOptions) => Promise<void>
  readonly #p: DiskParts
  readonly #waiting: DiskRequest[] = []
  readonly #listeners = new Set<() => void>()
  #sectors: number
  #pushPlanned = false
  #failure: Error | undefined
  #closed: Promise<void> | undefined
  /** Aborts the wait for a backend that doesn't close. */
  readonly #giveUp = new AbortController()

  /** For `openVbd` alone. */
  constructor(parts: DiskParts) {
    const { published, sectorSize } = parts
    this.#p = parts
    this.#sectors = published.sectors
    this.sectorSize = sectorSize
    this.physicalSectorSize = hintedPhysicalSize(published['physical-sector-size'], sectorSize)
    this.readOnly = (published.info & VDISK.READONLY) !== 0
    this.removable = (published.info & VDISK.REMOVABLE) !== 0
    this.cdrom = (published.info & VDISK.CDROM) !== 0
    const granularity = published['discard-granularity']
    const alignment = published['discard-alignment']
    const secure = published['discard-secure']
    const limits = hintedDiscardLimits({ granularity, alignment, secure }, sectorSize)
    this.discardLimits = limits ?? { granularity: sectorSize, alignment: 0, secure: false }
    if (published['feature-discard'] && limits) {
      this.discard = (sector, count, o) => this.#discard(sector, count, o)
    }
    for (const ring of parts.rings) {
      ring.channel.handle(
        () => this.#drain(ring),
        (error) => this.#fail(error),
      )
    }
  }

  /**
   * Size in units of 512 bytes, as the backend last published it; 0 for a drive without a medium.
   */
  get sectors(): number {
    return this.#sectors
  }

  /**
   * Calls the listener after each change of `sectors`, until the returned object is disposed of.
   */
  onResize(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** For `openVbd`, which watches the backend's nodes. */
  resized(sectors: number): void {
    this.#sectors = sectors
    for (const listener of this.#listeners) listener()
  }

  /**
   * For `openVbd`: fails the requests in flight with `error` and closes the disk. The next `close`
   * returns the outcome.
   */
  lost(error: unknown): void {
    this.#fail(error)
    this.close().catch(() => {})
  }

  /**
   * Reads whole sectors of the disk into buffers. `sector` counts units of 512 bytes.
   * @throws TypeError, RangeError for a range that isn't whole sectors of the disk
   * @throws DiskError if the backend answers with an error
   */
  async read(sector: number, into: readonly Uint8Array[]): Promise<{ readonly bytesRead: number }> {
    await this.#transfer(BLKIF_OP.READ, sector, into)
    return { bytesRead: byteLength(into) }
  }

  /**
   * Writes whole sectors of the disk from buffers. `sector` counts units of 512 bytes.
   * @throws TypeError, RangeError for a range that isn't whole sectors of the disk
   * @throws DiskError if the backend answers with an error, as it does for a read-only disk
   */
  async write(sector: number, from: readonly Uint8Array[]): Promise<void> {
    await this.#transfer(BLKIF_OP.WRITE, sector, from)
  }

  /**
   * Makes earlier writes durable. Does nothing if the backend offers no flush: writes are then
   * durable by themselves, or never.
   * @throws DiskError if the backend answers with an error
   */
  async flush(): Promise<void> {
    if (this.#p.published['feature-flush-cache']) {
      await this.#submit({
        operation: BLKIF_OP.FLUSH_DISKCACHE,
        sector: 0,
        data: [],
        bytes: 0,
        secure: false,
      })
    }
  }

  /**
   * Writes at most 44 KiB, ordered after all earlier requests and before all later ones.
   * @throws TypeError if the disk has several rings: a barrier orders requests of one
   * @throws RangeError for more than 44 KiB, or a range that isn't whole sectors of the disk
   * @throws DiskError if the backend answers with an error or offers no barrier
   */
  async barrier(sector: number, from: readonly Uint8Array[]): Promise<void> {
    if (this.#p.rings.length > 1) {
      throw new TypeError('a barrier orders requests of one ring: open the disk with "queues" 1')
    }
    const [piece = { sector, data: [], bytes: 0 }, ...more] = split(sector, from, {
      limit: MAX_PLAIN_REQUEST,
      unit: this.sectorSize,
    })
    if (more.length > 0) {
      throw new RangeError(`"buffers" expected at most ${MAX_PLAIN_REQUEST} bytes for a barrier`)
    }
    const request = { operation: BLKIF_OP.WRITE_BARRIER, secure: false, ...piece }
    if (!this.#p.published['feature-barrier']) throw this.#refused(request, BLKIF_RSP.EOPNOTSUPP)
    await this.#submit(request)
  }

  /**
   * Fails the requests in flight, closes the device once the backend agrees, and frees its pages.
   * If the backend closes first, the disk closes by itself.
   * @param o.signal ends the wait for the backend, also that of an earlier call: `close` then
   *   rejects with the signal's reason. Pages that the backend still maps are not reused.
   */
  async close({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#fail(
      new DiskError(`disk "${this.#p.vdev}" was closed`, {
        vdev: this.#p.vdev,
        status: BLKIF_RSP.ERROR,
      }),
    )
    const giveUp = (): void => this.#giveUp.abort(signal?.reason)
    if (signal?.aborted) giveUp()
    signal?.addEventListener('abort', giveUp)
    try {
      await (this.#closed ??= this.#p.close(this.#giveUp.signal))
    } finally {
      signal?.removeEventListener('abort', giveUp)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #transfer(
    operation: number,
    sector: number,
    buffers: readonly Uint8Array[],
  ): Promise<void> {
    const cut = split(sector, buffers, { limit: this.#p.maxRequest, unit: this.sectorSize })
    // Not `Promise.all`: the caller's buffers are in use until the last piece has settled.
    const pieces = await Promise.allSettled(
      cut.map((piece) => this.#submit({ operation, secure: false, ...piece })),
    )
    for (const piece of pieces) if (piece.status === 'rejected') throw piece.reason
  }

  async #discard(
    sector: number,
    count: number,
    { secure }: DiscardOptions = { secure: false },
  ): Promise<void> {
    expectWhole(sector, count * 512, this.sectorSize)
    if (secure && !this.discardLimits.secure) {
      throw new TypeError('"secure" expected false: the backend offers no secure discard')
    }
    if (count > 0) {
      await this.#submit({
        operation: BLKIF_OP.DISCARD,
        sector,
        data: [],
        bytes: count * 512,
        secure,
      })
    }
  }

  #submit(request: Omit<DiskRequest, 'done'>): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure)
      const done = (status: number | Error): void => {
        if (status === BLKIF_RSP.OKAY) resolve()
        else if (status instanceof Error) reject(status)
        else reject(this.#refused(request, status))
      }
      this.#waiting.push({ ...request, done })
      this.#planPush()
    })
  }

  #refused({ operation, sector, bytes }: Omit<DiskRequest, 'done'>, status: number): DiskError {
    const what = NAMES.get(operation) ?? operation
    return new DiskError(
      `disk "${this.#p.vdev}" answered ${status} to a ${what} of ${bytes / 512} sectors at ${sector}`,
      { vdev: this.#p.vdev, status },
    )
  }

  /** Publishes the requests of one tick together, with one notification for each ring. */
  #planPush(): void {
    if (this.#pushPlanned) return
    this.#pushPlanned = true
    queueMicrotask(() => {
      this.#pushPlanned = false
      try {
        this.#push()
      } catch (error) {
        this.#fail(error)
      }
    })
  }

  /** Submits waiting requests in order. One that finds no pages blocks those behind it. */
  #push(): void {
    const { rings, pages } = this.#p
    if (this.#failure) return
    for (let request = this.#waiting[0]; request; request = this.#waiting[0]) {
      const ring = rings.reduce((best, other) => (other.room > best.room ? other : best))
      if (ring.room === 0) break
      try {
        const own = pages.take(pagesOf(request))
        if (!own) break
        this.#waiting.shift()
        ring.put(request, own)
      } catch (error) {
        this.#waiting.shift()
        request.done(error instanceof Error ? error : new Error(String(error)))
      }
    }
    for (const ring of rings) ring.publish()
  }

  #drain(ring: DiskRing): void {
    if (this.#failure) return
    ring.drain(({ request, pages }, status) => {
      this.#p.pages.give(pages)
      request.done(status)
    })
    this.#push()
  }

  /** Fails all requests in flight, and all later ones. */
  #fail(error: unknown): void {
    if (this.#failure) return
    const failure = error instanceof Error ? error : new Error(String(error))
    this.#failure = failure
    for (const request of [
      ...this.#p.rings.flatMap((ring) => ring.drop()),
      ...this.#waiting.splice(0),
    ]) {
      request.done(failure)
    }
  }
}
