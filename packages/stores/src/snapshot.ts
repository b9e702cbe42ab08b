/**
 * Snapshots of a disk while it is written, for backups: before a write overwrites a block that a
 * snapshot needs, the block is copied. Without an open snapshot writes cost nothing more.
 *
 * A snapshot looks like the disk after a power failure. Writes that were in flight when it was
 * taken are in it as a whole; later ones aren't. Data in the guest's own caches isn't in it.
 */
import { type BlockStore, type StoreResult, byteLength } from '@xenkit/block-store'
import { XenError } from '@xenkit/hypervisor'
import { type Blocks, BlockMap, LONGEST_COPY, blocksIn } from './block-map.ts'
import { aroundStore, limitsOn } from './layer.ts'
import { RangeLocks } from './range-locks.ts'
import { sparseStore } from './sparse.ts'

/** Options of `snapshotStore`. */
export interface SnapshotOptions {
  /**
   * Bytes of a block, which is copied as a whole: a power of two, sector size..2^20, default 65536.
   */
  readonly blockSize?: number
}

/** A disk of which snapshots can be taken. */
export interface LiveStore extends BlockStore {
  /**
   * Takes a snapshot once the writes in flight have settled; later writes wait for it.
   * @param o `into` is the store for overwritten blocks, at least as large as the disk; its content
   *   doesn't matter. Default: a `sparseStore`, which may grow to the size of the disk.
   * @throws RangeError if `into` is too small or read-only
   */
  take(o?: { readonly into?: BlockStore }): Promise<Snapshot>
}

/** A read-only store: the disk as it was when the snapshot was taken. */
export interface Snapshot extends BlockStore, AsyncDisposable {
  /** Closes the snapshot once its reads have settled. Idempotent; later reads reject. */
  close(): Promise<void>
}

/**
 * A snapshot can't be read: it is closed, or a block could not be copied before it was overwritten.
 * The disk itself isn't affected.
 */
export class SnapshotError extends XenError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_XEN_SNAPSHOT', message, {}, options)
  }
}

/**
 * Makes a store of which snapshots can be taken.
 * @param base must be written only through the returned store from now on
 * @throws RangeError if the block size isn't a power of two of whole sectors
 */
export function snapshotStore(
  base: BlockStore,
  { blockSize = 65_536 }: SnapshotOptions = {},
): LiveStore {
  const locks = new RangeLocks()
  const open = new Set<Preserved>()
  /** Number of snapshots that are open or being taken. */
  let wanted = 0

  const blocksOf = blocksIn(blockSize, base.sectorSize)
  // While a snapshot is open, discards are limited: blocks are copied first, which takes time. A
  // secure discard isn't offered, because the copied data stays readable.
  const limits = limitsOn(base, { secure: false }, () => (wanted > 0 ? LONGEST_COPY : Infinity))
  const live = aroundStore(
    base,
    async ({ kind, sector, bytes }, run) => {
      if (kind === 'read' || kind === 'flush') return run()
      const range = blocksOf(sector, bytes / 512)
      // Calls for the same block wait for each other only while a snapshot may have to copy that
      // block.
      await locks.run({ ...range, shared: wanted === 0 }, async () => {
        for (const snapshot of open) await snapshot.preserve(range)
        await run()
      })
    },
    limits,
  )

  async function take({
    into = sparseStore(base.sectors),
  }: { readonly into?: BlockStore } = {}): Promise<Snapshot> {
    const map = new BlockMap(base, into, blockSize)
    const preserved = new Preserved(map)
    wanted++
    await locks.alone(async () => void open.add(preserved))
    let closing: Promise<void> | undefined
    const close = (): Promise<void> => {
      closing ??= locks.alone(async () => {
        open.delete(preserved)
        wanted--
        preserved.lost = new SnapshotError('the snapshot is closed')
        await map.reset()
      })
      return closing
    }
    return {
      sectors: map.sectors,
      sectorSize: base.sectorSize ?? 512,
      read: (sector, buffers) =>
        locks.run({ ...blocksOf(sector, byteLength(buffers) / 512), shared: true }, () =>
          preserved.read(sector, buffers),
        ),
      close,
      [Symbol.asyncDispose]: close,
    }
  }

  return Object.assign(live, { take })
}

/** Blocks that were copied for one snapshot. */
class Preserved {
  readonly #map: BlockMap
  /** Why the snapshot can't be read any more. */
  lost: SnapshotError | undefined

  constructor(map: BlockMap) {
    this.#map = map
  }

  /**
   * Copies blocks before they change. Never rejects: if the copy fails, the snapshot is lost, but
   * the guest's write goes on.
   */
  async preserve({ first, last }: Blocks): Promise<void> {
    const end = this.#map.blocksOf(this.#map.sectors - 1, 1).last
    // The disk may have grown since the snapshot was taken: the new blocks aren't in it.
    if (this.lost || first > end) return
    try {
      await this.#map.preserve({ first, last: Math.min(last, end) })
    } catch (cause) {
      this.lost = new SnapshotError(
        'the snapshot is lost: what was about to be overwritten could not be copied aside',
        { cause },
      )
    }
  }

  async read(sector: number, into: Uint8Array[]): Promise<StoreResult> {
    if (this.lost) throw this.lost
    return this.#map.read(sector, into)
  }
}
