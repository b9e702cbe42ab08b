/**
 * The path `map` for a store whose `write` may change its buffers: reads are mapped, the data of
 * writes is copied. The pages of a write are mapped read-only, and a store to one would end the
 * process (SIGSEGV).
 */
import { BLKIF_OP } from '@xenkit/wire'
import type { DataPath } from './data-path.ts'
import type { Requests } from './requests.ts'

export class MappedReads implements DataPath {
  readonly #operation: Uint8Array
  readonly #mapped: DataPath
  readonly #copied: DataPath

  constructor(o: {
    readonly requests: Requests
    readonly mapped: DataPath
    readonly copied: DataPath
  }) {
    this.#operation = o.requests.operation
    this.#mapped = o.mapped
    this.#copied = o.copied
  }

  reserve(row: number): boolean {
    return this.#pathOf(row).reserve(row)
  }

  /** Copies for writes alone. */
  fetch(rows: Uint16Array, first: number, end: number): void {
    this.#copied.fetch(rows, first, end)
  }

  addViews(row: number, to: Uint8Array[]): void {
    this.#pathOf(row).addViews(row, to)
  }

  /** What was read is in the guest's pages. */
  deliver(): void {}

  release(row: number): void {
    this.#pathOf(row).release(row)
  }

  close(): void {
    this.#mapped.close()
    this.#copied.close()
  }

  #pathOf(row: number): DataPath {
    return this.#operation[row] === BLKIF_OP.READ ? this.#mapped : this.#copied
  }
}
