/** The contract between a block backend and what it serves. */
import type { StoreBatch, StoreBatchOptions } from './store-batch.ts'

/**
 * How much a call moved. Nothing means all of it; the objects are what `FileHandle.readv` and
 * `writev` resolve to, so their promise can be returned as it is.
 */
export type StoreResult = void | { readonly bytesRead: number } | { readonly bytesWritten: number }

/** `BlockStore.write`, which may say more of itself. */
export interface StoreWrite {
  (sector: number, from: Uint8Array[]): StoreResult | Promise<StoreResult>
  /**
   * This function never changes the buffers, and passes them to nothing that might. With the data
   * path `map` it is given the guest's own pages then, mapped read-only: a store to one ends the
   * process on Xen (SIGSEGV). Others get a private copy, which they may change. It says so of the
   * function, so that an object with this store's members and a `write` of its own doesn't.
   */
  readonly leavesBuffers?: true
}

/** For `Object.assign(write, LEAVES_BUFFERS)`. */
export const LEAVES_BUFFERS = { leavesBuffers: true } as const

/**
 * What a block backend serves: an object with a size, `read`, and what else it can do. The disk's
 * protocol, the guest's mistakes and the batching stay outside of it.
 *
 * A "sector" is always 512 bytes. The backend checks every request against `sectors` before a
 * store sees it, and never calls with an empty list. A call that throws, rejects or reports
 * another number of bytes than were asked for is an error, which the guest is told. Several calls
 * may be in flight at once; the guest keeps requests that depend on each other apart.
 *
 * The buffers are the store's until the call has returned, thrown or settled, and another
 * request's afterwards. A call that makes several therefore waits for all of them, also when one
 * fails (`Promise.allSettled`, not `Promise.all`). A disk is closed when all of its calls have
 * settled: one that never does keeps it open.
 */
export interface BlockStore {
  /** Size of the disk, 1..2^43, in whole `sectorSize`s. A store tells of changes by `onResize`. */
  readonly sectors: number
  /**
   * Smallest unit of a request in bytes, default 512. With 4096 every `sector` and every length
   * is a multiple of 8: sectors as this interface counts them are of 512 bytes all the same.
   */
  readonly sectorSize?: SectorSize
  /**
   * Unit below which a write makes the medium read first, in bytes: a power of two, at least
   * `sectorSize`, its default.
   */
  readonly physicalSectorSize?: number
  /**
   * Reads consecutive bytes, beginning at `sector`, into the buffers in their order. A call that
   * gives nothing back has read all of them. The backend's buffers hold zeroes before.
   */
  read(sector: number, into: Uint8Array[]): StoreResult | Promise<StoreResult>
  /** Writes likewise. A store without it is served as a read-only disk. */
  write?: StoreWrite
  /**
   * Makes every write and discard that completed before the call durable. A store without it
   * advertises no flush.
   */
  flush?(): void | Promise<void>
  /**
   * Gives up what `count` sectors hold: they may read as anything that isn't another disk's. The
   * guest's discard may be cut to whole granules. A store without it advertises no discard.
   */
  discard?(sector: number, count: number, o: DiscardOptions): void | Promise<void>
  /** What `discard` likes: by default granules of a sector at 0, any length, no secure discard. */
  readonly discardLimits?: DiscardLimits
  /**
   * Changes `sectors`, because a toolstack asks for it. A store without it has a size of its own.
   */
  resize?(sectors: number): void | Promise<void>
  /**
   * Reads and writes many at a time, instead of by `read` and `write`, which it must equal.
   * Undefined where that can't be had for this memory.
   */
  openBatch?(o: StoreBatchOptions): StoreBatch | undefined
  /**
   * Lets other threads make the same store, for `threads` of `serveVbd`. Undefined where they
   * can't, as for an object that has a store's members and others of its own.
   */
  share?(): SharedStore | undefined
  /** Calls the listener after each change of `sectors`, until what it returns is disposed of. */
  onResize?(listener: () => void): Disposable
}

/** Bytes of a sector: a page holds whole ones, so that a segment of a request does. */
export type SectorSize = 512 | 1024 | 2048 | 4096

export const isSectorSize = (bytes: unknown): bytes is SectorSize =>
  bytes === 512 || bytes === 1024 || bytes === 2048 || bytes === 4096

export interface DiscardOptions {
  /**
   * No copy of the data may remain readable, at whatever cost. Only ever set where
   * `discardLimits.secure` is.
   */
  readonly secure: boolean
}

export interface DiscardLimits {
  /** Bytes that are discarded together: a multiple of the sector size. */
  readonly granularity: number
  /** Where the first whole granule begins, in bytes. */
  readonly alignment: number
  readonly secure: boolean
  /**
   * Most bytes of one call, default Infinity. A guest's longer discard comes as several calls, one
   * after the other. A call of this length is charged as a read of 1 MiB: choose what holds the
   * event loop about as long, a quarter of a millisecond. Asked for before each call.
   */
  readonly maximum?: number
}

/** Largest `sectors`: its bytes are still an exact integer in a double. */
export const MAX_SECTORS = 2 ** 43

/** What a store's discard likes now. */
export const discardLimitsOf = (store: BlockStore): Required<DiscardLimits> => ({
  granularity: store.sectorSize ?? 512,
  alignment: 0,
  secure: false,
  maximum: Infinity,
  ...store.discardLimits,
})

/** Whether a store's call goes on. */
export const isPromise = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && 'then' in value

/** Bytes that a store reported, or undefined for what is no report. */
export function bytesMoved(result: unknown): number | undefined {
  if (typeof result !== 'object' || result === null) return undefined
  const bytes =
    'bytesRead' in result
      ? result.bytesRead
      : 'bytesWritten' in result
        ? result.bytesWritten
        : undefined
  return typeof bytes === 'number' ? bytes : undefined
}

/**
 * How a store gets to other threads, which can't have the object itself: they are told what it is
 * made of, and make one of their own over the same bytes. Disposed of when no other thread uses the
 * store any more.
 */
export interface SharedStore extends Disposable {
  /** URL of a module whose default export is an `OpenSharedStore`. */
  readonly module: string
  /** What that is given: anything that goes through structured clone. */
  readonly data: unknown
}

/** @param size the store's, as it is at any time: who shares it tells of changes */
export type OpenSharedStore = (
  data: unknown,
  size: { readonly sectors: number },
) => BlockStore | Promise<BlockStore>

/** Bytes of a list of buffers. */
export const byteLength = (buffers: readonly Uint8Array[]): number =>
  buffers.reduce((sum, { length }) => sum + length, 0)
