/**
 * A read cache in memory, for stores that are far away or that many disks read. It evicts the least
 * recently used blocks. Writes go through and drop the blocks that they touch.
 */
import { type BlockStore, byteLength } from '@xenkit/block-store'
import { expectInteger } from '@xenkit/hypervisor'
import { type Blocks, blocksIn } from './block-map.ts'
import { Cursor, scatter } from './buffers.ts'
import { all, aroundStore, whole } from './layer.ts'
import { RangeLocks } from './range-locks.ts'

/**
 * Most blocks that a write drops one by one, in 0.25 ms; a write to more clears the whole cache.
 */
const MOST_DROPPED = 4096

/** Options of `cachedStore`. */
export interface CacheOptions {
  /** Memory for blocks, in bytes, at least one block. */
  readonly bytes: number
  /**
   * Bytes of a block, which is always read as a whole: a power of two, sector size..2^20, default
   * 65536.
   */
  readonly blockSize?: number
}

/** The part of a block that a read wants. */
interface Part {
  readonly block: number
  /** First byte within the block. */
  readonly first: number
  readonly length: number
  readonly into: readonly Uint8Array[]
}

/**
 * Puts a read cache over a store.
 * @param base must be written only through the returned store from now on
 * @throws RangeError if the block size isn't a power of two of whole sectors, or is larger than the
 *   cache
 */
export function cachedStore(
  base: BlockStore,
  { bytes: capacity, blockSize = 65_536 }: CacheOptions,
): BlockStore {
  const blocksOf = blocksIn(blockSize, base.sectorSize)
  expectInteger('bytes', capacity, blockSize, Number.MAX_SAFE_INTEGER)
  const locks = new RangeLocks()
  /** Cached blocks, least recently used first. No write to one of them is in flight. */
  const blocks = new Map<number, Uint8Array>()
  // If the disk grows, a cached last block may be shorter than it is now.
  base.onResize?.(() => blocks.clear())

  /** Returns a cached block, and makes it the most recently used one. */
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

  /** Drops blocks. A long range clears a large cache as a whole, which takes no time. */
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
    // The store may have shrunk since the read started.
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
    // Concurrent misses of one block wait for each other, so that the second one hits.
    await locks.run({ ...range, shared: false }, async () => {
      if (kind === 'read') return parts.length * blockSize > capacity ? run() : miss(parts)
      drop(range)
      await run()
    })
  })
}
