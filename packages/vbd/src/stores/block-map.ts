/**
 * Two stores as one: for each block, whether it is `base` that has it, or `top`, or nobody (it was given
 * up and reads as zeroes). Overlays put into `top` what was written, snapshots what is about to be
 * overwritten in `base`. Callers keep calls on the same blocks apart.
 */
import { expectInteger } from '@xenkit/hypervisor'
import type { BlockStore } from '../block-store.ts'
import { byteLength, slice } from './buffers.ts'
import { type WritableStore, all, isWritable, whole } from './layer.ts'

export const IN = { BASE: 0, TOP: 1, NOBODY: 2 } as const

/** Longest copy between the two stores, in bytes. */
const LONGEST_COPY = 1024 * 1024

/** Both inclusive. */
export interface Blocks {
  readonly first: number
  readonly last: number
}

/**
 * Which blocks a range of sectors touches.
 * @throws RangeError when the block size isn't a power of two of at least `unit`
 */
export function blocksIn(blockSize: number, unit = 512): (sector: number, count: number) => Blocks {
  expectInteger('blockSize', blockSize, unit, LONGEST_COPY)
  if ((blockSize & (blockSize - 1)) !== 0) throw new RangeError(`"blockSize" expected a power of two, got ${blockSize}`)
  const sectors = blockSize / 512
  return (sector, count) => ({ first: Math.floor(sector / sectors), last: Math.floor((sector + count - 1) / sectors) })
}

export interface Run {
  readonly where: number
  readonly sector: number
  readonly count: number
}

export class BlockMap {
  readonly base: BlockStore
  readonly top: WritableStore
  /** Of the disk, as it was when this was made. */
  readonly sectors: number
  readonly blockSectors: number
  readonly blocksOf: (sector: number, count: number) => Blocks
  /** A byte a block, and memory for those alone that were touched. */
  readonly #where: Uint8Array

  /** @throws RangeError when the block size isn't a power of two of whole sectors, or `top` is too small or read-only */
  constructor(base: BlockStore, top: BlockStore, blockSize: number) {
    this.blocksOf = blocksIn(blockSize, Math.max(base.sectorSize ?? 512, top.sectorSize ?? 512))
    if (top.sectors < base.sectors) throw new RangeError(`the store for changes has ${top.sectors} sectors, expected ${base.sectors} as the other has`)
    if (!isWritable(top)) throw new RangeError('the store for changes is read-only')
    this.base = base
    this.top = top
    this.sectors = base.sectors
    this.blockSectors = blockSize / 512
    this.#where = new Uint8Array(Math.ceil(this.sectors / this.blockSectors))
  }

  where(block: number): number {
    return this.#where[block] ?? IN.BASE
  }

  /** Blocks `first` and up to `end`, not included. */
  mark(first: number, end: number, where: number): void {
    this.#where.fill(where, first, end)
  }

  /** The stretches of a range that are in one place each, at most `longest` blocks long. */
  *runs(sector: number, count: number, longest = Infinity): Generator<Run> {
    const { first, last } = this.blocksOf(sector, count)
    for (let block = first; block <= last; ) {
      const where = this.where(block)
      let end = block + 1
      while (end <= last && end - block < longest && this.#where[end] === where) end++
      const from = Math.max(sector, block * this.blockSectors)
      yield { where, sector: from, count: Math.min(sector + count, end * this.blockSectors) - from }
      block = end
    }
  }

  async read(sector: number, into: readonly Uint8Array[]): Promise<void> {
    const reads: Promise<void>[] = []
    for (const run of this.runs(sector, byteLength(into) / 512)) {
      const views = slice(into, (run.sector - sector) * 512, run.count * 512)
      if (run.where === IN.NOBODY) for (const view of views) view.fill(0)
      else reads.push(readWhole(run.where === IN.TOP ? this.top : this.base, run.sector, views))
    }
    await all(reads)
  }

  /** Puts whole blocks into `top`: what is written, and around it what they held. */
  async write(sector: number, from: readonly Uint8Array[]): Promise<void> {
    const end = sector + byteLength(from) / 512
    const { first, last } = this.blocksOf(sector, end - sector)
    const head = this.where(first) === IN.TOP ? sector : first * this.blockSectors
    const tail = this.where(last) === IN.TOP ? end : Math.min((last + 1) * this.blockSectors, this.sectors)
    const [before, after] = [new Uint8Array((sector - head) * 512), new Uint8Array((tail - end) * 512)]
    await all([before.length > 0 ? this.read(head, [before]) : undefined, after.length > 0 ? this.read(end, [after]) : undefined].filter((read) => read !== undefined))
    const buffers = [before, ...from, after].filter(({ length }) => length > 0)
    await whole(this.top.write(head, buffers), byteLength(buffers))
    this.mark(first, last + 1, IN.TOP)
  }

  /** Copies what `base` has of these blocks to `top`. */
  async preserve({ first, last }: Blocks): Promise<void> {
    const sector = first * this.blockSectors
    const count = Math.min((last + 1) * this.blockSectors, this.sectors) - sector
    for (const run of this.runs(sector, count, LONGEST_COPY / 512 / this.blockSectors)) {
      if (run.where !== IN.BASE) continue
      const bytes = new Uint8Array(run.count * 512)
      await readWhole(this.base, run.sector, [bytes])
      await whole(this.top.write(run.sector, [bytes]), bytes.length)
      const blocks = this.blocksOf(run.sector, run.count)
      this.mark(blocks.first, blocks.last + 1, IN.TOP)
    }
  }

  /** Everything is in `base` again. */
  async reset(): Promise<void> {
    this.#where.fill(IN.BASE)
    await this.top.discard?.(0, this.sectors, { secure: false })
  }

  /** Writes what isn't in `base` to it. */
  async commit(base: WritableStore): Promise<void> {
    for (const run of this.runs(0, this.sectors, LONGEST_COPY / 512 / this.blockSectors)) {
      if (run.where === IN.BASE) continue
      const bytes = new Uint8Array(run.count * 512)
      if (run.where === IN.TOP) await readWhole(this.top, run.sector, [bytes])
      await whole(base.write(run.sector, [bytes]), bytes.length)
    }
    await base.flush?.()
  }
}

const readWhole = async (store: BlockStore, sector: number, into: Uint8Array[]): Promise<void> => whole(store.read(sector, into), byteLength(into))
