/**
 * Values by index, for very many indices: a tree with 64 entries per node. A stretch of one value
 * takes a few entries, however long it is. Filling it changes only the nodes at its two ends.
 */

const ENTRIES = 64

class Node<T> {
  readonly entries: (T | Node<T> | undefined)[]

  constructor(value: T | undefined) {
    this.entries = Array.from({ length: ENTRIES }, () => value)
  }
}

/** Consecutive indices of one value. */
export interface Stretch<T> {
  readonly value: T | undefined
  /** First index after the stretch. The next stretch may have the same value. */
  readonly end: number
}

/** Values by index, stored as stretches of equal values. */
export class StretchTree<T extends number | object> {
  /** Indices of the whole tree: a power of 64. */
  readonly #span: number
  #root: T | Node<T> | undefined

  /** @param size number of indices, from 0; none has a value at first */
  constructor(size: number) {
    let span = ENTRIES
    while (span < size) span *= ENTRIES
    this.#span = span
  }

  /** Finds the value of an index, and the end of a stretch that has it. */
  at(index: number): Stretch<T> {
    let entry = this.#root
    let span = this.#span
    while (entry instanceof Node) {
      span /= ENTRIES
      entry = entry.entries[Math.floor(index / span) % ENTRIES]
    }
    return { value: entry, end: (Math.floor(index / span) + 1) * span }
  }

  /** Sets or clears the value of the indices from `first` up to `end`, exclusive. */
  fill(first: number, end: number, value: T | undefined): void {
    this.#root = filled(this.#root, { span: this.#span, first, end, value })
  }
}

interface Filling<T> {
  /** Indices below the entry. */
  readonly span: number
  /**
   * First index of the stretch, relative to the entry's first index. It may lie outside of the
   * entry, as may `end`.
   */
  readonly first: number
  readonly end: number
  readonly value: T | undefined
}

/** Fills a stretch within an entry, and returns what replaces the entry. */
function filled<T extends number | object>(
  entry: T | Node<T> | undefined,
  { span, first, end, value }: Filling<T>,
): T | Node<T> | undefined {
  if ((first <= 0 && end >= span) || entry === value) return value
  const node = entry instanceof Node ? entry : new Node(entry)
  const below = span / ENTRIES
  for (let i = Math.max(0, Math.floor(first / below)); i < ENTRIES && i * below < end; i++) {
    node.entries[i] = filled(node.entries[i], {
      span: below,
      first: first - i * below,
      end: end - i * below,
      value,
    })
  }
  return node
}
