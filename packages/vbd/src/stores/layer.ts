/** What stores on top of another store have in common. */
import { type BlockStore, type StoreResult, bytesMoved } from '../block-store.ts'

/** The calls of a store, as it makes them itself. */
export type StoreCalls = Pick<BlockStore, 'read' | 'write' | 'flush' | 'discard'>

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
    ...(onResize === undefined ? {} : { onResize: (listener: () => void) => onResize.call(base, listener) }),
    ...calls,
  }
}

/** Waits for a call of `bytes` bytes. @throws RangeError when it moved less */
export async function whole(result: StoreResult | Promise<StoreResult>, bytes: number): Promise<void> {
  const value = await result
  const moved = value === undefined ? bytes : bytesMoved(value)
  if (moved !== bytes) throw new RangeError(`the store moved ${moved} of ${bytes} bytes`)
}

/** Waits for all, as a store must that makes several calls, then throws what the first that failed did. */
export async function all(calls: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(calls)) if (result.status === 'rejected') throw result.reason
}
