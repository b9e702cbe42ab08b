/**
 * Two stores as one disk. Each block is in `base`, in `top`, or in neither: then it was discarded
 * and reads as zeroes. Overlays put written blocks into `top`; snapshots put blocks there before
 * `base` is overwritten. Callers never run calls on the same blocks concurrently.
 */
import { type BlockStore, byteLength } from '@xenkit/block-store'
import { expectInteger } from '@xenkit/hypervisor'
import { BlockPlaces } from './block-places.ts'
import { Cursor, isZero } from './buffers.ts'
import { type WritableStore, all, discardAll, isWritable, loopTurn, whole } from './layer.ts'

/** Where a block's data is: in `base`, in `top`, or nowhere (the block was discarded). */
export const IN = { BASE: 0, TOP: 1, NOBODY: 2 } as const

/** Longest copy between the two stores, in bytes: it takes 0.3 ms if both are in memory. */
export const LONGEST_COPY = 1024 * 1024

/** A range of blocks, both ends inclusive. */
export interface Blocks {
  readonly first: number
  readonly last: number
}

/**
 * Returns a function that finds the blocks of a range of sectors.
 * @throws RangeError when the block size isn't a power of two of at least `unit`
 */
export function blocksIn(blockSize: number, unit = 512): (sector: number, count: number) => Blocks {
  expectInteger('blockSize', blockSize, unit, LONGEST_COPY)
  if ((blockSize & (blockSize - 1)) !== 0) {
    throw new RangeError(`"blockSize" expected a power of two, got ${blockSize}`)
  }
  const sectors = blockSize / 512
  return (sector, count) => ({
    first: Math.floor(sector / sectors),
    last: Math.floor((sector + count - 1) / sectors),
  })
}

/** Sectors that are all in one place. */
export interface Run {
  /** A value of `IN`. */
  readonly where: number
  readonly sector: number
  readonly count: number
}

/** The places of a disk's blocks, and the reads and writes that follow them. */
export class BlockMap {
  readonly base: BlockStore
  readonly top: WritableStore
  /** Size of the disk when the map was made. */
  readonly sectors: number
  readonly blockSectors: number
  readonly blocksOf: (sector: number, count: number) => Blocks
  readonly #places: BlockPlaces

  /**
   * @throws RangeError when the block size isn't a power of two of whole sectors, or `top` is too
   * small or read-only
   */
  constructor(base: BlockStore, top: BlockStore, blockSize: number) {
    this.blocksOf = blocksIn(blockSize, Math.max(base.sectorSize ?? 512, top.sectorSize ?? 512))
    if (top.sectors < base.sectors) {
      throw new RangeError(
        `the store for changes has ${top.sectors} sectors, expected ${base.sectors} as the other has`,
      )
    }
    if (!isWritable(top)) throw new RangeError('the store for changes is read-only')
    this.base = base
    this.top = top
    this.sectors = base.sectors
    this.blockSectors = blockSize / 512
    this.#places = new BlockPlaces(this.#blocks)
  }

  get #blocks(): number {
    return Math.ceil(this.sectors / this.blockSectors)
  }

  where(block: number): number {
    return this.#places.at(block)
  }

  /** Sets the place of the blocks from `first` up to `end`, exclusive. */
  mark(first: number, end: number, where: number): void {
    this.#places.mark(first, end, where)
  }

  /** Splits a range into runs. Runs that aren't in `base` have `longest` blocks at most. */
  *runs(sector: number, count: number, longest = Infinity): Generator<Run> {
    const { first, last } = this.blocksOf(sector, count)
    for (let block = first; block <= last;) {
      const where = this.where(block)
      const most = where === IN.BASE ? last + 1 : Math.min(last + 1, block + longest)
      const end = this.#places.end(block, most)
      const from = Math.max(sector, block * this.blockSectors)
      yield { where, sector: from, count: Math.min(sector + count, end * this.blockSectors) - from }
      block = end
    }
  }

  async read(sector: number, into: readonly Uint8Array[]): Promise<{ readonly bytesRead: number }> {
    const bytesRead = byteLength(into)
    const reads: Promise<void>[] = []
    const rest = new Cursor(into)
    for (const run of this.runs(sector, bytesRead / 512)) {
      const views = rest.take(run.count * 512)
      if (run.where === IN.NOBODY) for (const view of views) view.fill(0)
      else reads.push(readWhole(run.where === IN.TOP ? this.top : this.base, run.sector, views))
    }
    await all(reads)
    return { bytesRead }
  }

  /**
   * Writes sectors to `top`, in whole blocks: the rest of the first and last block is copied first.
   */
  async write(sector: number, from: readonly Uint8Array[]): Promise<void> {
    const end = sector + byteLength(from) / 512
    const { first, last } = this.blocksOf(sector, end - sector)
    const head = this.where(first) === IN.TOP ? sector : first * this.blockSectors
    const tail =
      this.where(last) === IN.TOP ? end : Math.min((last + 1) * this.blockSectors, this.sectors)
    const [before, after] = [
      new Uint8Array((sector - head) * 512),
      new Uint8Array((tail - end) * 512),
    ]
    await all(
      [
        before.length > 0 ? this.read(head, [before]) : undefined,
        after.length > 0 ? this.read(end, [after]) : undefined,
      ].filter((read) => read !== undefined),
    )
    const buffers = [before, ...from, after].filter(({ length }) => length > 0)
    await whole(this.top.write(head, buffers), byteLength(buffers))
    this.mark(first, last + 1, IN.TOP)
  }

  /** Copies the blocks of the range that are in `base` to `top`. */
  async preserve({ first, last }: Blocks): Promise<void> {
    const sector = first * this.blockSectors
    const count = Math.min((last + 1) * this.blockSectors, this.sectors) - sector
    for (const run of this.runs(sector, count)) {
      if (run.where !== IN.BASE) continue
      for (let at = run.sector, end = at + run.count; at < end; at += LONGEST_COPY / 512) {
        if (at > run.sector) await loopTurn()
        await this.#preserve(at, Math.min(LONGEST_COPY / 512, end - at))
      }
    }
  }

  /**
   * Copies sectors to `top`, except zeroes: otherwise discarding a sparse disk would fill `top`.
   */
  async #preserve(sector: number, count: number): Promise<void> {
    const bytes = new Uint8Array(count * 512)
    await readWhole(this.base, sector, [bytes])
    const zero = isZero(bytes)
    if (!zero) await whole(this.top.write(sector, [bytes]), bytes.length)
    const { first, last } = this.blocksOf(sector, count)
    this.mark(first, last + 1, zero ? IN.NOBODY : IN.TOP)
  }

  /** Puts every block back into `base`, and discards `top`. */
  async reset(): Promise<void> {
    this.mark(0, this.#blocks, IN.BASE)
    await discardAll(this.top, this.sectors)
  }

  /** Writes every block that isn't in `base` to it. */
  async commit(base: WritableStore): Promise<void> {
    for (const run of this.runs(0, this.sectors, LONGEST_COPY / 512 / this.blockSectors)) {
      if (run.where === IN.BASE) continue
      const bytes = new Uint8Array(run.count * 512)
      if (run.where === IN.TOP) await readWhole(this.top, run.sector, [bytes])
      await whole(base.write(run.sector, [bytes]), bytes.length)
      await loopTurn()
    }
    await base.flush?.()
  }
}

const readWhole = async (store: BlockStore, sector: number, into: Uint8Array[]): Promise<void> =>
  whole(store.read(sector, into), byteLength(into))
