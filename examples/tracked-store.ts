// A store on top of another one: remembers which blocks were written, for an incremental backup.
// tracked-store.test.ts shows how to test a store.
import type { BlockStore } from 'xenkit'

export const BLOCK_SECTORS = 128 // 64 KiB

export interface TrackedStore extends BlockStore {
  /** Numbers of the blocks that were written, or may have been. Clear it after a backup. */
  readonly changed: Set<number>
}

export function trackedStore(base: BlockStore): TrackedStore {
  const { write, flush } = base
  if (!write) throw new TypeError('"base" expected a store that can be written')
  const changed = new Set<number>()
  return {
    changed,
    sectors: base.sectors,
    read: (sector, into) => base.read(sector, into),
    write(sector, from) {
      const end = sector + from.reduce((bytes, buffer) => bytes + buffer.length, 0) / 512
      const first = Math.floor(sector / BLOCK_SECTORS)
      for (let block = first; block * BLOCK_SECTORS < end; block++) changed.add(block)
      return write.call(base, sector, from)
    },
    ...(flush && { flush: () => flush.call(base) }),
  }
}
