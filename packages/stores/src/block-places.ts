/**
 * The place of each block of a disk. A long stretch in one place takes next to no memory; blocks
 * whose places alternate take a byte each.
 */
import { StretchTree } from './stretch-tree.ts'

/**
 * Blocks of a group. A group whose blocks are in different places has an array with a byte per
 * block.
 */
const GROUP = 1024

export class BlockPlaces {
  readonly #blocks: number
  /** For each group: the place of all its blocks, or an array with the place of each block. */
  readonly #groups: StretchTree<number | Uint8Array>

  /** @param blocks number of blocks; all start in place 0 */
  constructor(blocks: number) {
    this.#blocks = blocks
    this.#groups = new StretchTree(Math.ceil(blocks / GROUP))
  }

  at(block: number): number {
    const { value = 0 } = this.#groups.at(Math.floor(block / GROUP))
    return typeof value === 'number' ? value : (value[block % GROUP] ?? 0)
  }

  /**
   * Returns the first block after `block` that is in another place; `most` if there is none before.
   */
  end(block: number, most: number): number {
    const place = this.at(block)
    let next = block + 1
    while (next < most && this.at(next) === place) {
      const { value, end } = this.#groups.at(Math.floor(next / GROUP))
      next = typeof value === 'object' ? next + 1 : end * GROUP
    }
    return Math.min(next, most)
  }

  /** Puts the blocks from `first` to before `end` in a place. */
  mark(first: number, end: number, place: number): void {
    const firstWhole = Math.ceil(first / GROUP)
    // The last group may have fewer blocks.
    const endWhole = end === this.#blocks ? Math.ceil(end / GROUP) : Math.floor(end / GROUP)
    if (firstWhole > endWhole) return this.#markPart(first, end, place)
    if (first < firstWhole * GROUP) this.#markPart(first, firstWhole * GROUP, place)
    if (firstWhole < endWhole) this.#groups.fill(firstWhole, endWhole, place)
    if (endWhole * GROUP < end) this.#markPart(endWhole * GROUP, end, place)
  }

  /** Puts blocks of one group in a place. */
  #markPart(first: number, end: number, place: number): void {
    const group = Math.floor(first / GROUP)
    const { value = 0 } = this.#groups.at(group)
    if (value === place) return
    const each = typeof value === 'number' ? new Uint8Array(GROUP).fill(value) : value
    each.fill(place, first - group * GROUP, end - group * GROUP)
    if (each !== value) this.#groups.fill(group, group + 1, each)
  }
}
