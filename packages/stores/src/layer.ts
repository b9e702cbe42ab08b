/** What stores on top of another store have in common. */
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

/** The calls of a store, as it makes them itself. */
export type StoreCalls = Pick<BlockStore, 'read' | 'write' | 'flush' | 'discard' | 'discardLimits'>

export type WritableStore = BlockStore & Required<Pick<BlockStore, 'write'>>

/** A write of data that `base` is given as it is: leaves it if `base` does. */
export const writeOn = (base: WritableStore, write: StoreWrite): StoreWrite =>
  base.write.leavesBuffers ? Object.assign(write, LEAVES_BUFFERS) : write

export const isWritable = (store: BlockStore): store is WritableStore => store.write !== undefined

/** A store with these calls that otherwise looks like `base`, and changes its size with it. */
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

export interface StoreCall {
  readonly kind: 'read' | 'write' | 'flush' | 'discard'
  readonly sector: number
  /** Of a flush none, of a discard those that are given up. */
  readonly bytes: number
  /** Of a read or write. */
  readonly buffers: Uint8Array[]
}

/**
 * `base`, each call of which goes through `around`; `run` makes the call whole or rejects.
 * @param limits of discards, where they aren't those of `base`
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

/** Waits for a call of `bytes` bytes. @throws RangeError when it moved less */
export async function whole(
  result: StoreResult | Promise<StoreResult>,
  bytes: number,
): Promise<void> {
  const value = await result
  const moved = value === undefined ? bytes : bytesMoved(value)
  if (moved !== bytes) throw new RangeError(`the store moved ${moved} of ${bytes} bytes`)
}

/**
 * Waits for all, as a store must that makes several calls, then throws what the first that failed
 * did.
 */
export async function all(calls: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(calls)) {
    if (result.status === 'rejected') throw result.reason
  }
}

/**
 * Limits of a store on `base`, where its `own` don't say otherwise those of `base`.
 * @param most a call's bytes are limited by it, and by `base`, as they are when the call is made
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

/** Lets the event loop go round: stores that answer at once would hold it for a whole long copy. */
export const loopTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Gives up the first `sectors` of a store, in calls as long as it likes them. */
export async function discardAll(store: BlockStore, sectors: number): Promise<void> {
  for (let sector = 0; sector < sectors;) {
    const count = Math.min(sectors - sector, discardLimitsOf(store).maximum / 512)
    await store.discard?.(sector, count, { secure: false })
    sector += count
    if (sector < sectors) await loopTurn()
  }
}
