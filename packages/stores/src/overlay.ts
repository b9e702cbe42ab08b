/**
 * Copy-on-write: what is written goes to a store of its own, what wasn't is read from the base,
 * which stays as it is. Which blocks were written is known in memory alone: an overlay ends with
 * its process.
 */
import { byteLength } from '@xenkit/block-store'
import type { BlockStore } from '@xenkit/block-store'
import { BlockMap, IN } from './block-map.ts'
import { isWritable, limitsOn, writeOn } from './layer.ts'
import { RangeLocks } from './range-locks.ts'
import { sparseStore } from './sparse.ts'

export interface OverlayOptions {
  /**
   * Takes what is written: as large as the base, its content doesn't matter. Default memory, as
   * much as is written.
   */
  readonly top?: BlockStore
  /** Bytes that are copied together, a power of two, default 4096. */
  readonly blockSize?: number
}

export interface OverlayStore extends BlockStore {
  /**
   * Writes all changes to the base, which then has what the overlay has. Calls meanwhile wait. If
   * it fails, the base is half written, the overlay is as it was and can commit again.
   * @throws TypeError when the base is read-only
   */
  commit(): Promise<void>
  /** Forgets all changes. Not for a disk that a guest uses. */
  reset(): Promise<void>
}

/**
 * @param base read only, except by `commit`; nobody else may write to it meanwhile. Its size is
 *   taken once.
 * @throws RangeError when the block size isn't a power of two of whole sectors, or `top` is too
 *   small or read-only
 */
export function overlayStore(
  base: BlockStore,
  { top = sparseStore(base.sectors), blockSize = 4096 }: OverlayOptions = {},
): OverlayStore {
  const map = new BlockMap(base, top, blockSize)
  const locks = new RangeLocks()
  return {
    sectors: map.sectors,
    sectorSize: base.sectorSize ?? 512,
    physicalSectorSize: Math.max(blockSize, base.physicalSectorSize ?? 0),
    discardLimits: limitsOn(top, { granularity: blockSize, alignment: 0, secure: false }),
    read: (sector, into) =>
      locks.run({ ...map.blocksOf(sector, byteLength(into) / 512), shared: true }, () =>
        map.read(sector, into),
      ),
    write: writeOn(map.top, (sector, from) => {
      const range = { ...map.blocksOf(sector, byteLength(from) / 512), shared: false }
      return locks.run(range, () => map.write(sector, from))
    }),
    // Durable for whoever knows which of the top's blocks count: after this process, nobody.
    flush: () => top.flush?.(),
    /** Whole blocks read as zeroes from then on, never as what the base has. */
    discard: (sector, count) =>
      locks.run({ ...map.blocksOf(sector, count), shared: false }, async () => {
        const first = Math.ceil(sector / map.blockSectors)
        const end =
          sector + count === map.sectors
            ? Math.ceil(map.sectors / map.blockSectors)
            : Math.floor((sector + count) / map.blockSectors)
        if (first >= end) return
        map.mark(first, end, IN.NOBODY)
        const from = first * map.blockSectors
        await top.discard?.(from, Math.min(end * map.blockSectors, map.sectors) - from, {
          secure: false,
        })
      }),
    async commit() {
      if (!isWritable(base)) throw new TypeError("the overlay's base is read-only")
      await locks.alone(async () => {
        await map.commit(base)
        await map.reset()
      })
    },
    reset: () => locks.alone(() => map.reset()),
  }
}
