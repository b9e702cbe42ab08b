/**
 * The data path `copy`. One grant-copy call fetches the data of many writes, or delivers the data
 * of many reads.
 */
import type { GrantCopier } from '@xenkit/grant'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { Buffer, PagePool } from '@xenkit/backend'
import type { DataPath } from './data-path.ts'
import type { Requests } from './requests.ts'

export class CopiedData implements DataPath {
  readonly #requests: Requests
  readonly #copier: GrantCopier
  readonly #pool: PagePool
  readonly #wake: () => void
  readonly #buffers: (Buffer | undefined)[]
  /** Rows that have a buffer: none, most of the time, where pages are mapped. */
  #held = 0
  /** Rows whose copies are queued in the copier, in its order. */
  readonly #batch: Uint16Array
  #batchCount = 0

  /**
   * @param o.copier has room for at least the segments of one request
   * @param o.wake called when it is worth calling `reserve` again
   */
  constructor(o: {
    readonly requests: Requests
    readonly copier: GrantCopier
    readonly pool: PagePool
    readonly wake: () => void
  }) {
    this.#requests = o.requests
    this.#copier = o.copier
    this.#pool = o.pool
    this.#wake = o.wake
    this.#buffers = Array.from({ length: o.requests.rows })
    this.#batch = new Uint16Array(o.requests.rows)
  }

  reserve(row: number): boolean {
    const { bytes, length, offset, segmentCount } = this.#requests
    const count = segmentCount[row] ?? 0
    if (count === 0) return true
    const buffer = this.#pool.take(bytes[row] ?? 0, this.#wake)
    if (buffer === undefined) return false
    this.#buffers[row] = buffer
    this.#held++
    let at = buffer.extent.byteOffset(buffer.first)
    for (let i = row * MAX_SEGMENTS, end = i + count; i < end; i++) {
      offset[i] = at
      at += length[i] ?? 0
    }
    return true
  }

  /** Leaves the pool's queue: the oldest request no longer needs a buffer. */
  waitNoMore(): void {
    this.#pool.forget(this.#wake)
  }

  /** Whether a row holds a buffer. */
  has(row: number): boolean {
    return this.#buffers[row] !== undefined
  }

  fetch(rows: Uint16Array, first: number, end: number): void {
    if (this.#held === 0) return
    const { status, operation } = this.#requests
    for (let i = first; i < end; i++) {
      const row = rows[i] ?? 0
      if (status[row] === BLKIF_RSP.OKAY && operation[row] !== BLKIF_OP.READ) {
        this.#add(row, 'copyIn')
      }
    }
    this.#copy('copyIn')
  }

  addViews(row: number, to: Uint8Array[]): void {
    const { bytes, operation } = this.#requests
    const buffer = this.#buffers[row]
    if (!buffer) return
    const view = buffer.extent.view(buffer.first, bytes[row] ?? 0)
    // The buffer holds an earlier request's data. A store that fills less, and doesn't report it,
    // must not show that to the guest. Cost: 60 ns a page.
    if (operation[row] === BLKIF_OP.READ) view.fill(0)
    to.push(view)
  }

  deliver(rows: Uint16Array, count: number): void {
    if (this.#held === 0) return
    const { status, operation } = this.#requests
    for (let i = 0; i < count; i++) {
      const row = rows[i] ?? 0
      if (status[row] === BLKIF_RSP.OKAY && operation[row] === BLKIF_OP.READ) {
        this.#add(row, 'copyOut')
      }
    }
    this.#copy('copyOut')
  }

  release(row: number): void {
    const buffer = this.#buffers[row]
    if (!buffer) return
    this.#buffers[row] = undefined
    this.#held--
    this.#pool.give(buffer)
  }

  close(): void {
    this.waitNoMore()
    for (let row = 0; row < this.#buffers.length; row++) this.release(row)
  }

  #add(row: number, direction: 'copyIn' | 'copyOut'): void {
    if (!this.has(row)) return
    const { segmentCount, gref, pageOffset, length, offset } = this.#requests
    const count = segmentCount[row] ?? 0
    if (this.#copier.count + count > this.#copier.capacity) this.#copy(direction)
    for (let i = row * MAX_SEGMENTS, end = i + count; i < end; i++) {
      this.#copier.add(gref[i] ?? 0, pageOffset[i] ?? 0, length[i] ?? 0, offset[i] ?? 0)
    }
    this.#batch[this.#batchCount++] = row
  }

  #copy(direction: 'copyIn' | 'copyOut'): void {
    try {
      if (this.#copier[direction]() > 0) this.#failRows()
    } finally {
      this.#copier.reset()
      this.#batchCount = 0
    }
  }

  #failRows(): void {
    const { status, segmentCount } = this.#requests
    let copy = 0
    for (let i = 0; i < this.#batchCount; i++) {
      const row = this.#batch[i] ?? 0
      for (const end = copy + (segmentCount[row] ?? 0); copy < end; copy++) {
        if (this.#copier.status[copy] !== 0) status[row] = BLKIF_RSP.ERROR
      }
    }
  }
}
