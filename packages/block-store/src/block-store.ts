/** The contract between a block backend and what it serves. */
import type { StoreBatch, StoreBatchOptions } from './store-batch.ts'

/**
 * Bytes that a call moved; nothing means all of them. The objects are what `FileHandle.readv` and
 * `writev` resolve to, so that a store can return their promise.
 */
export type StoreResult = void | { readonly bytesRead: number } | { readonly bytesWritten: number }

/** Type of `BlockStore.write`: a function that may carry a mark, `leavesBuffers`. */
export interface StoreWrite {
  (sector: number, from: Uint8Array[]): StoreResult | Promise<StoreResult>
  /**
   * Promises that this function never changes the buffers, nor passes them to anything that might.
   * With the data path `map` it then gets the guest's own pages, mapped read-only: changing one
   * ends the process on Xen (SIGSEGV). Other functions get a private copy, which they may change.
   *
   * The mark sits on the function: an object that copies a store's members and replaces `write`
   * doesn't inherit it.
   */
  readonly leavesBuffers?: true
}

/** The mark of `StoreWrite`, for `Object.assign(write, LEAVES_BUFFERS)`. */
export const LEAVES_BUFFERS = { leavesBuffers: true } as const

/**
 * A disk that a block backend serves: an object with a size, `read`, and optional members. The
 * backend handles the protocol, the guest's mistakes and batching.
 *
 * A "sector" is always 512 bytes. The backend checks every request against `sectors` first, and
 * never passes an empty list. A call fails if it throws, rejects or reports another number of bytes
 * than requested; the guest then gets an error. Several calls may be in flight at once; the guest
 * orders requests that depend on each other.
 *
 * A store may use the buffers until its call has returned, thrown or settled. Afterwards they
 * belong to another request. A call that makes several calls therefore waits for all of them, also
 * when one fails (`Promise.allSettled`, not `Promise.all`). A disk closes once all of its calls
 * have settled: a call that never settles keeps it open.
 */
export interface BlockStore {
  /** Size of the disk in sectors, 1..2^43, a multiple of `sectorSize`. See `onResize`. */
  readonly sectors: number
  /**
   * Smallest unit of a request in bytes, default 512. Sectors are counted in 512 bytes all the
   * same: with 4096, every `sector` and every count of sectors is a multiple of 8.
   */
  readonly sectorSize?: SectorSize
  /**
   * Bytes of the medium's own unit, default `sectorSize`: a shorter write makes the medium read
   * first. A power of two, at least `sectorSize`.
   */
  readonly physicalSectorSize?: number
  /**
   * Reads consecutive bytes, starting at `sector`, into the buffers in their order. A call that
   * returns nothing has filled all of them. The backend passes zeroed buffers.
   */
  read(sector: number, into: Uint8Array[]): StoreResult | Promise<StoreResult>
  /** Writes the buffers in their order, starting at `sector`. Without it the disk is read-only. */
  write?: StoreWrite
  /**
   * Makes every write and discard that completed before the call durable. Without it the guest is
   * offered no flush.
   */
  flush?(): void | Promise<void>
  /**
   * Gives up the data of `count` sectors: they may then read as anything except another disk's
   * data. The backend may cut a guest's discard to whole granules. Without it the guest is offered
   * no discard.
   */
  discard?(sector: number, count: number, o: DiscardOptions): void | Promise<void>
  /** Limits of `discard`; by default granules of one sector at 0, any length, none secure. */
  readonly discardLimits?: DiscardLimits
  /**
   * Changes `sectors` at a toolstack's request. Without it such requests are refused.
   */
  resize?(sectors: number): void | Promise<void>
  /**
   * Opens a batch, which the backend uses in place of `read` and `write`. It must have the same
   * effect. Undefined if this memory can't have one.
   */
  openBatch?(o: StoreBatchOptions): StoreBatch | undefined
  /**
   * Describes the store to other threads, which then open it themselves. Undefined if they can't,
   * for example when called on an object that copied this store's members and replaced some.
   */
  share?(): SharedStore | undefined
  /** Calls the listener after each change of `sectors`, until the result is disposed. */
  onResize?(listener: () => void): Disposable
}

/** Bytes of a disk's sector. Each size divides a page, so that segments hold whole sectors. */
export type SectorSize = 512 | 1024 | 2048 | 4096

/** Whether a value is a size that a disk's sectors can have. */
export const isSectorSize = (bytes: unknown): bytes is SectorSize =>
  bytes === 512 || bytes === 1024 || bytes === 2048 || bytes === 4096

/** Options of one discard. */
export interface DiscardOptions {
  /**
   * No copy of the data may remain readable, at whatever cost. Set only if the store has
   * `discardLimits.secure`.
   */
  readonly secure: boolean
}

/** What a store's `discard` can do. */
export interface DiscardLimits {
  /** Bytes of a granule, which is discarded whole: a multiple of the sector size. */
  readonly granularity: number
  /** First byte of the first whole granule. */
  readonly alignment: number
  /** Whether `discard` can be `secure`. */
  readonly secure: boolean
  /**
   * Most bytes of one call, default Infinity; read before each call. A longer discard is split into
   * calls, one after the other. A call of this length costs the guest as much as a read of 1 MiB:
   * choose the length that holds the event loop about as long, a quarter of a millisecond.
   */
  readonly maximum?: number
}

/** Largest `sectors`: the disk's bytes, 2^52, are still an exact integer in a double. */
export const MAX_SECTORS = 2 ** 43

/** Limits of a store's discard now, defaults filled in. */
export const discardLimitsOf = (store: BlockStore): Required<DiscardLimits> => ({
  granularity: store.sectorSize ?? 512,
  alignment: 0,
  secure: false,
  maximum: Infinity,
  ...store.discardLimits,
})

/** Whether a store's call completes asynchronously. */
export const isPromise = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && 'then' in value

/** Bytes that a store reported, or undefined if the value is no report. */
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
 * A store described to other threads, which can't have the object itself: each opens a store of its
 * own over the same bytes. Disposed when no other thread uses the store any more.
 */
export interface SharedStore extends Disposable {
  /** URL of a module whose default export is an `OpenSharedStore`. */
  readonly module: string
  /** First argument of that function: any value that structured clone can copy. */
  readonly data: unknown
}

/**
 * Opens a shared store in another thread.
 * @param data what `SharedStore.data` was
 * @param size always has the store's current size: the thread that shares the store updates it
 */
export type OpenSharedStore = (
  data: unknown,
  size: { readonly sectors: number },
) => BlockStore | Promise<BlockStore>

/** Total bytes of a list of buffers. */
export const byteLength = (buffers: readonly Uint8Array[]): number =>
  buffers.reduce((sum, { length }) => sum + length, 0)
