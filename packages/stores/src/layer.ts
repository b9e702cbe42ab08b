/** Helpers for stores on top of another store. */
import {
  type BlockStore,
  type DiscardLimits,
  type DiscardOptions,
  type StoreResult,
  type StoreWrite,
  LEAVES_BUFFERS,
  bytesMoved,
  discardLimitsOf,
  byteLength,
} from '@xenkit/block-store'

/** The members of a store that a layer replaces. */
export type StoreCalls = Pick<BlockStore, 'read' | 'write' | 'flush' | 'discard' | 'discardLimits'>

/** A store that isn't read-only. */
export type WritableStore = BlockStore & Required<Pick<BlockStore, 'write'>>

/**
 * Wraps a write that passes its buffers on to `base`. It is marked as leaving the buffers unchanged
 * if the write of `base` is.
 */
export const writeOn = (base: WritableStore, write: StoreWrite): StoreWrite =>
  base.write.leavesBuffers ? Object.assign(write, LEAVES_BUFFERS) : write

export const isWritable = (store: BlockStore): store is WritableStore => store.write !== undefined

/** Returns a store with these members, and the size and units of `base`. */
export function layerOn(base: BlockStore, calls: StoreCalls): BlockStore {
  const { sectorSize, physicalSectorSize, discardLimits, onResize } = base
  return {
    get sectors() {
      return base.sectors
    },
    ...(sectorSize === undefined ? {} : { sectorSize }),
    ...(physicalSectorSize === undefined ? {} : { physicalSectorSize }),
    ...(discardLimits === undefined || calls.discard === undefined ? {} : { discardLimits }),
    ...(onResize === undefined
      ? {}
      : { onResize: (listener: () => void) => onResize.call(base, listener) }),
    ...calls,
  }
}

/** One call of a store, as the plans of `faultyStore` and the limits of `throttledStore` see it. */
export interface StoreCall {
  readonly kind: 'read' | 'write' | 'flush' | 'discard'
  /** First sector; 0 for a flush. */
  readonly sector: number
  /** Bytes that are moved or discarded; 0 for a flush. */
  readonly bytes: number
  /** Buffers of a read or write; else none. */
  readonly buffers: Uint8Array[]
}

/**
 * Makes a store that passes each call of `base` through `around`, which calls `run` to make the
 * call. `run` rejects unless all bytes moved.
 * @param limits limits of discards, if they differ from those of `base`
 */
export function aroundStore(
  base: BlockStore,
  around: (call: StoreCall, run: () => Promise<void>) => Promise<void>,
  limits?: DiscardLimits,
): BlockStore {
  const { flush, discard } = base
  return layerOn(base, {
    async read(sector, buffers) {
      const bytes = byteLength(buffers)
      const call: StoreCall = { kind: 'read', sector, bytes, buffers }
      await around(call, async () => whole(base.read(sector, buffers), bytes))
      return { bytesRead: bytes }
    },
    ...(isWritable(base) && {
      write: writeOn(base, (sector, buffers) => {
        const bytes = byteLength(buffers)
        const call: StoreCall = { kind: 'write', sector, bytes, buffers }
        return around(call, async () => whole(base.write(sector, buffers), bytes))
      }),
    }),
    ...(flush && {
      flush: () =>
        around({ kind: 'flush', sector: 0, bytes: 0, buffers: [] }, async () => flush.call(base)),
    }),
    ...(discard && {
      discard: (sector: number, count: number, o: DiscardOptions) =>
        around({ kind: 'discard', sector, bytes: count * 512, buffers: [] }, async () =>
          discard.call(base, sector, count, o),
        ),
      ...(limits && { discardLimits: limits }),
    }),
  })
}

/**
 * Waits for a call.
 * @throws RangeError unless it moved `bytes` bytes
 */
export async function whole(
  result: StoreResult | Promise<StoreResult>,
  bytes: number,
): Promise<void> {
  const value = await result
  const moved = value === undefined ? bytes : bytesMoved(value)
  if (moved !== bytes) throw new RangeError(`the store moved ${moved} of ${bytes} bytes`)
}

/**
 * Waits until all calls have settled, as a store must, then throws the first failed call's error.
 */
export async function all(calls: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(calls)) {
    if (result.status === 'rejected') throw result.reason
  }
}

/**
 * Returns the limits of discards of a layer: its `own`, else those of `base`.
 * @param most returns the most bytes of one call. It is called before each discard, as the maximum
 * may change.
 */
export const limitsOn = (
  base: BlockStore,
  own: Partial<DiscardLimits>,
  most = (): number => Infinity,
): DiscardLimits => ({
  ...discardLimitsOf(base),
  ...own,
  get maximum() {
    return Math.min(discardLimitsOf(base).maximum, most())
  },
})

/** Yields to the event loop: a long copy between synchronous stores would block it otherwise. */
export const loopTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Discards the first `sectors` of a store, in calls within its limits. */
export async function discardAll(store: BlockStore, sectors: number): Promise<void> {
  for (let sector = 0; sector < sectors;) {
    const count = Math.min(sectors - sector, discardLimitsOf(store).maximum / 512)
    await store.discard?.(sector, count, { secure: false })
    sector += count
    if (sector < sectors) await loopTurn()
  }
}
