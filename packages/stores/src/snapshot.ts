/**
 * Snapshots of a disk that goes on being written, for backups: before a write overwrites what a
 * snapshot has to show, that is copied aside. Without a snapshot open a write costs nothing more.
 *
 * A snapshot is as a disk after a power failure whose writes all ended: those that were in flight
 * when it was taken are in it, whole, later ones aren't. What a guest had not written yet it
 * doesn't have.
 */
import { byteLength } from '@xenkit/block-store'
import { XenError } from '@xenkit/hypervisor'
import type { BlockStore, StoreResult } from '@xenkit/block-store'
import { type Blocks, BlockMap, LONGEST_COPY, blocksIn } from './block-map.ts'
import { aroundStore, limitsOn } from './layer.ts'
import { RangeLocks } from './range-locks.ts'
import { sparseStore } from './sparse.ts'

export interface SnapshotOptions {
  /** Bytes that are copied together, a power of two, default 65536. */
  readonly blockSize?: number
}

export interface LiveStore extends BlockStore {
  /**
   * Takes a snapshot, once the writes in flight have ended; later ones wait for that.
   * @param o `into` keeps what is overwritten: as large as the disk, its content doesn't matter.
   *   Default memory, as much as is overwritten, in the end the size of the disk.
   * @throws RangeError when `into` is too small or read-only
   */
  take(o?: { readonly into?: BlockStore }): Promise<Snapshot>
}

/** A read-only store: what the disk held. */
export interface Snapshot extends BlockStore, AsyncDisposable {
  /** Ends it, after its reads in flight. Idempotent; later reads reject. */
  close(): Promise<void>
}

/**
 * The snapshot is closed, or what it has to show could not be copied aside. The disk itself went
 * on.
 */
export class SnapshotError extends XenError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_XEN_SNAPSHOT', message, {}, options)
  }
}

/**
 * @param base from then on to be written through what this returns alone
 * @throws RangeError when the block size isn't a power of two of whole sectors
 */
export function snapshotStore(
  base: BlockStore,
  { blockSize = 65_536 }: SnapshotOptions = {},
): LiveStore {
  const locks = new RangeLocks()
  const open = new Set<Preserved>()
  /** Snapshots that are open or about to be. */
  let wanted = 0

  const blocksOf = blocksIn(blockSize, base.sectorSize)
  // What a snapshot has to show is copied, which takes time, and stays readable.
  const limits = limitsOn(base, { secure: false }, () => (wanted > 0 ? LONGEST_COPY : Infinity))
  const live = aroundStore(
    base,
    async ({ kind, sector, bytes }, run) => {
      if (kind === 'read' || kind === 'flush') return run()
      const range = blocksOf(sector, bytes / 512)
      // Those who share a block wait for each other only where it may have to be copied.
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

/** What was copied aside for one snapshot. */
class Preserved {
  readonly #map: BlockMap
  /** Why there is nothing to be read any more. */
  lost: SnapshotError | undefined

  constructor(map: BlockMap) {
    this.#map = map
  }

  /** Never rejects: a backup that fails is no reason to fail the guest's write. */
  async preserve({ first, last }: Blocks): Promise<void> {
    const end = this.#map.blocksOf(this.#map.sectors - 1, 1).last
    // The disk may have grown since.
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
