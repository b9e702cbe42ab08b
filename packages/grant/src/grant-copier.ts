/**
 * Copies between one domain's granted pages and the arena, many in one call. Follows GNTTABOP_copy
 * in xen/include/public/grant_table.h.
 *
 * Open one copier per ring. Operations are stored in typed arrays that the hypervisor's adapter has
 * registered: adding one creates no object, and running all of them is one call.
 */
import type { GrantCopyBatch } from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'

/** Most attempts of an operation that answers GNTST_eagain, including the first. */
const TRIES = 8

/** Callbacks by which the grant table counts a copier's retries. */
export interface CopierWatcher {
  retried(): void
  closed(): void
}

/** Grant copies between one domain's pages and the arena. `GrantTable.openCopier` opens one. */
export class GrantCopier implements Disposable {
  /** GNTST_okay (0) or a negative GNTST_* code for each operation of the last run. */
  readonly status: Int16Array
  readonly capacity: number

  readonly #batch: GrantCopyBatch
  readonly #watcher: CopierWatcher
  #count = 0

  constructor(batch: GrantCopyBatch, watcher: CopierWatcher) {
    this.#batch = batch
    this.#watcher = watcher
    this.status = batch.status
    this.capacity = batch.capacity
  }

  /** Operations added since `reset`. */
  get count(): number {
    return this.#count
  }

  /** Removes all operations. */
  reset(): void {
    this.#count = 0
  }

  /**
   * Adds an operation.
   * @param offset first byte within the granted page, 0..4095
   * @param length bytes, 1..4096, not beyond the page's end
   * @param local offset of the first byte in the arena's buffer
   * @returns its index in `status`
   * @throws RangeError when the copier holds `capacity` operations already
   */
  add(gref: number, offset: number, length: number, local: number): number {
    const index = this.#count
    if (index === this.capacity) {
      throw new RangeError(`the copier holds ${this.capacity} operations, which is its capacity`)
    }
    const batch = this.#batch
    batch.gref[index] = gref
    batch.offset[index] = offset
    batch.length[index] = length
    batch.local[index] = local
    this.#count = index + 1
    return index
  }

  /**
   * Copies from the other domain's pages into the arena.
   * @returns how many operations failed; `status` says which, and the others are complete
   * @throws RangeError if an operation is out of bounds; nothing is copied
   * @throws GrantError if the hypervisor refuses the whole call
   */
  copyIn(): number {
    return this.#run('copyIn')
  }

  /**
   * Copies from the arena into the other domain's pages. Results and errors are those of `copyIn`.
   */
  copyOut(): number {
    return this.#run('copyOut')
  }

  close(): void {
    try {
      this.#batch.close()
    } finally {
      this.#watcher.closed()
    }
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /**
   * Retries GNTST_eagain immediately: a paged-out page is back after a few calls, or its operation
   * fails. Sleeping until then would stop every other device of this thread. A retry runs all
   * operations: copying twice is harmless, and a subset would change the caller's indices.
   */
  #run(direction: 'copyIn' | 'copyOut'): number {
    if (this.#count === 0) return 0
    let failed = this.#batch[direction](this.#count)
    for (let tries = 1; failed > 0 && tries < TRIES && this.#anyEagain(); tries++) {
      this.#watcher.retried()
      failed = this.#batch[direction](this.#count)
    }
    return failed
  }

  #anyEagain(): boolean {
    for (let i = 0; i < this.#count; i++) if (this.status[i] === GNTST.eagain) return true
    return false
  }
}
