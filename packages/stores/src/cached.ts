/**
 * A read cache in memory, for stores that are far away or read by many disks. Blocks that were read
 * stay until memory is needed for others, the least recently used first; writes go through and drop
 * the blocks they touch.
 */
import { byteLength } from '@xenkit/block-store'
import { expectInteger } from '@xenkit/hypervisor'
import type { BlockStore } from '@xenkit/block-store'
import { type Blocks, blocksIn } from './block-map.ts'
import { Cursor, scatter } from './buffers.ts'
import { all, aroundStore, whole } from './layer.ts'
import { RangeLocks } from './range-locks.ts'

/** Most blocks that are dropped one by one: a quarter of a millisecond. */
const MOST_DROPPED = 4096

export interface CacheOptions {
  /** Memory for blocks, in bytes. */
  readonly bytes: number
  /** Bytes that are read together, a power of two, default 65536. */
  readonly blockSize?: number
}

/** What a read has of a block. */
interface Part {
  readonly block: number
  /** Within the block, in bytes. */
  readonly first: number
  readonly length: number
  readonly into: readonly Uint8Array[]
}

/**
 * @param base from then on to be written through what this returns alone
 * @throws RangeError when the block size isn't a power of two of whole sectors, or larger than the
 *   cache
 */
export function cachedStore(
  base: BlockStore,
  { bytes: capacity, blockSize = 65_536 }: CacheOptions,
): BlockStore {
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

  /** A cache of many blocks loses all of them to a discard of many: that takes no time. */
  function drop({ first, last }: Blocks): void {
    if (last - first < MOST_DROPPED) {
      for (let block = first; block <= last; block++) blocks.delete(block)
    } else if (blocks.size > MOST_DROPPED) {
      blocks.clear()
    } else {
      for (const block of blocks.keys()) if (block >= first && block <= last) blocks.delete(block)
    }
  }

  function partsOf(sector: number, into: readonly Uint8Array[]): Part[] {
    const parts: Part[] = []
    const rest = new Cursor(into)
    for (let at = sector * 512, end = at + byteLength(into); at < end;) {
      const block = Math.floor(at / blockSize)
      const length = Math.min((block + 1) * blockSize, end) - at
      parts.push({ block, first: at - block * blockSize, length, into: rest.take(length) })
      at += length
    }
    return parts
  }

  function deliver({ first, length, into }: Part, data: Uint8Array): void {
    // The store may have shrunk since the read was asked for.
    const there = data.subarray(first, first + length)
    if (there.length < length) {
      throw new RangeError(`the store has ${there.length} of ${length} bytes`)
    }
    scatter(there, into)
  }

  function hit(parts: readonly Part[]): boolean {
    for (const part of parts) {
      const data = use(part.block)
      if (data === undefined) return false
      deliver(part, data)
    }
    return true
  }

  const miss = (parts: readonly Part[]): Promise<void> =>
    all(parts.map(async (part) => deliver(part, use(part.block) ?? (await fetchBlock(part.block)))))

  return aroundStore(base, async ({ kind, sector, bytes, buffers }, run) => {
    if (kind === 'flush') return run()
    const range = blocksOf(sector, bytes / 512)
    const parts = kind === 'read' ? partsOf(sector, buffers) : []
    if (kind === 'read' && hit(parts)) return
    // Misses of the same block wait for each other as well: the second one hits.
    await locks.run({ ...range, shared: false }, async () => {
      if (kind === 'read') return parts.length * blockSize > capacity ? run() : miss(parts)
      drop(range)
      await run()
    })
  })
}
