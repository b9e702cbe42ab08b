/**
 * Copy-on-write: written blocks go to a store of their own, all others are read from the base,
 * which isn't changed. The map of written blocks is in memory only: an overlay ends with its
 * process.
 */
import { type BlockStore, byteLength } from '@xenkit/block-store'
import { BlockMap, IN } from './block-map.ts'
import { isWritable, limitsOn, writeOn } from './layer.ts'
import { RangeLocks } from './range-locks.ts'
import { sparseStore } from './sparse.ts'

/** Options of `overlayStore`. */
export interface OverlayOptions {
  /**
   * Store for written blocks, at least as large as the base; its content doesn't matter. Default: a
   * `sparseStore`, which takes memory only for written blocks.
   */
  readonly top?: BlockStore
  /**
   * Bytes of a block, which is copied as a whole: a power of two, sector size..2^20, default 4096.
   */
  readonly blockSize?: number
}

/** A disk over a base that it doesn't change. */
export interface OverlayStore extends BlockStore {
  /**
   * Writes all changes to the base. Other calls wait until it has finished. If it fails, the base
   * is partly written; the overlay is unchanged and can commit again.
   * @throws TypeError if the base is read-only
   */
  commit(): Promise<void>
  /** Discards all changes. Don't call it while a guest uses the disk. */
  reset(): Promise<void>
}

/**
 * Puts a copy-on-write layer over a store.
 * @param base is written by `commit` alone; nobody else may write to it. The overlay keeps the
 * base's present size.
 * @throws RangeError if the block size isn't a power of two of whole sectors, or `top` is too small
 * or read-only
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
    // Flushes `top` alone. More can't be made durable: the map of written blocks ends with the
    // process.
    flush: () => top.flush?.(),
    // Discarded blocks read as zeroes afterwards, never as the base's data.
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
