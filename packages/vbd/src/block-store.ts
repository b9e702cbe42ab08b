/**
 * What a block backend serves. A store is an object with a size and up to three functions; the disk's
 * protocol, the guest's mistakes and the batching stay outside of it.
 *
 * "sector" is always 512 bytes. The backend checks every request against `sectors` before a store sees
 * it, never calls with an empty list, and tells the guest of an error when a call throws, rejects or
 * reports another number of bytes than were asked for. Several calls may be in flight at once; the
 * guest keeps requests that depend on each other apart.
 *
 * The buffers are the store's until the call has returned, thrown or settled, and another request's
 * afterwards. A call that makes several therefore waits for all of them, also when one fails
 * (`Promise.allSettled`, not `Promise.all`). A disk is closed when all of its calls have settled: one
 * that never does keeps it open.
 */

/**
 * How much a call moved. Nothing means all of it; the objects are what `FileHandle.readv` and `writev`
 * resolve to, so their promise can be returned as it is.
 */
export type StoreResult = void | { readonly bytesRead: number } | { readonly bytesWritten: number }

export interface BlockStore {
  /** Size of the disk, 1..2^43. */
  readonly sectors: number
  /** Reads consecutive bytes, beginning at `sector`, into the buffers in their order. */
  read(sector: number, into: Uint8Array[]): StoreResult | Promise<StoreResult>
  /** Writes likewise. A store without it is served as a read-only disk. */
  write?(sector: number, from: Uint8Array[]): StoreResult | Promise<StoreResult>
  /** Makes every write that completed before the call durable. A store without it advertises no flush. */
  flush?(): void | Promise<void>
}

/** Largest `sectors`: its bytes are still an exact integer in a double. */
export const MAX_SECTORS = 2 ** 43

/** Bytes that a store reported, or undefined for what is no report. */
export function bytesMoved(result: unknown): number | undefined {
  if (typeof result !== 'object' || result === null) return undefined
  const bytes = 'bytesRead' in result ? result.bytesRead : 'bytesWritten' in result ? result.bytesWritten : undefined
  return typeof bytes === 'number' ? bytes : undefined
}
