/**
 * A read cache in memory, for stores that are far away or read by many disks. Blocks that were read
 * stay until memory is needed for others, the least recently used first; writes go through and drop the
 * blocks they touch.
 */
import { expectInteger } from '@xenkit/hypervisor'
import type { BlockStore } from '../block-store.ts'
import { type Blocks, blocksIn } from './block-map.ts'
import { scatter, slice } from './buffers.ts'
import { all, aroundStore, whole } from './layer.ts'
import { RangeLocks } from './range-locks.ts'

export interface CacheOptions {
  /** Memory for blocks, in bytes. */
  readonly bytes: number
  /** Bytes that are read together, a power of two, default 65536. */
  readonly blockSize?: number
}

/**
 * @param base from then on to be written through what this returns alone
 * @throws RangeError when the block size isn't a power of two of whole sectors, or larger than the cache
 */
export function cachedStore(base: BlockStore, { bytes: capacity, blockSize = 65_536 }: CacheOptions): BlockStore {
  const blocksOf = blocksIn(blockSize, base.sectorSize)
  expectInteger('bytes', capacity, blockSize, Number.MAX_SAFE_INTEGER)
  const locks = new RangeLocks()
  /** In the order in which they were used. None of them is being written. */
  const blocks = new Map<number, Uint8Array>()
  // The last block may have been cut short by the old end.
  base.onResize?.(() => blocks.clear())

  /** A block that is there, from now on the one used last. */
  function use(block: number): Uint8Array | undefined {
    const data = blocks.get(block)
    if (data === undefined) return undefined
    blocks.delete(block)
    blocks.set(block, data)
    return data
  }

  async function fetchBlock(block: number): Promise<Uint8Array> {
    const sector = (block * blockSize) / 512
    const data = new Uint8Array(Math.min(blockSize, (base.sectors - sector) * 512))
    await whole(base.read(sector, [data]), data.length)
    blocks.set(block, data)
    for (const oldest of blocks.keys()) {
      if (blocks.size * blockSize <= capacity) break
      blocks.delete(oldest)
    }
    return data
  }

  /** Copies the part of a block that a read asks for. */
  function deliver(block: number, data: Uint8Array, sector: number, into: readonly Uint8Array[]): void {
    const ahead = block * blockSize - sector * 512
    scatter(data.subarray(Math.max(-ahead, 0)), slice(into, Math.max(ahead, 0), data.length - Math.max(-ahead, 0)))
  }

  function hit({ first, last }: Blocks, sector: number, into: readonly Uint8Array[]): boolean {
    for (let block = first; block <= last; block++) {
      const data = use(block)
      if (data === undefined) return false
      deliver(block, data, sector, into)
    }
    return true
  }

  async function miss({ first, last }: Blocks, sector: number, into: readonly Uint8Array[]): Promise<void> {
    const wanted = Array.from({ length: last - first + 1 }, (_, i) => first + i)
    await all(wanted.map(async (block) => deliver(block, use(block) ?? (await fetchBlock(block)), sector, into)))
  }

  return aroundStore(base, async ({ kind, sector, bytes, buffers }, run) => {
    if (kind === 'flush') return run()
    const range = blocksOf(sector, bytes / 512)
    if (kind === 'read' && hit(range, sector, buffers)) return
    // Misses of the same block wait for each other as well: the second one hits.
    await locks.run({ ...range, shared: false }, async () => {
      if (kind === 'read') return (range.last - range.first + 1) * blockSize > capacity ? run() : miss(range, sector, buffers)
      for (let block = range.first; block <= range.last; block++) blocks.delete(block)
      await run()
    })
  })
}
