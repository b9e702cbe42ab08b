/**
 * Values of very many indices: a tree of 64 entries a node. A stretch of one value is a few
 * entries, however long; to fill it changes the nodes at its two ends alone.
 */

const ENTRIES = 64

class Node<T> {
  readonly entries: (T | Node<T> | undefined)[]

  constructor(value: T | undefined) {
    this.entries = Array.from({ length: ENTRIES }, () => value)
  }
}

export interface Stretch<T> {
  readonly value: T | undefined
  /** Index behind the stretch. The next one may have the same value. */
  readonly end: number
}

export class StretchTree<T extends number | object> {
  /** Indices of the whole tree: a power of 64. */
  readonly #span: number
  #root: T | Node<T> | undefined

  /** @param size number of indices, which begin at 0 and have no value yet */
  constructor(size: number) {
    let span = ENTRIES
    while (span < size) span *= ENTRIES
    this.#span = span
  }

  /** What an index has, and up to where others have the same. */
  at(index: number): Stretch<T> {
    let entry = this.#root
    let span = this.#span
    while (entry instanceof Node) {
      span /= ENTRIES
      entry = entry.entries[Math.floor(index / span) % ENTRIES]
    }
    return { value: entry, end: (Math.floor(index / span) + 1) * span }
  }

  /** Gives a value, or none, to the indices from `first` to before `end`. */
  fill(first: number, end: number, value: T | undefined): void {
    this.#root = filled(this.#root, { span: this.#span, first, end, value })
  }
}

interface Filling<T> {
  /** Indices below the entry. */
  readonly span: number
  /** Counted from the entry's first index: they may lie outside of it. */
  readonly first: number
  readonly end: number
  readonly value: T | undefined
}

/** What becomes of an entry. */
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
