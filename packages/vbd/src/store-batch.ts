/**
 * Reads and writes of a store, many with one call and without an object for any: for stores whose bytes
 * something faster than JavaScript can move, straight between where they are kept and the memory that
 * holds requests' data.
 */
export interface StoreBatch {
  /**
   * Adds a read or write, which begins at `sector`. Its memory follows: `vectors` times at most, 1..256, `addVector`.
   * @param tag given back with the result
   * @returns false if too many are under way: call the store's `read` or `write` for this one
   */
  add(tag: number, isWrite: boolean, sector: number, vectors: number): boolean
  /** Adds `bytes` bytes at an offset of the memory to what was added last. */
  addVector(offset: number, bytes: number): void
  /** Starts what was added. Of what is done at once the result is told within the call. */
  submit(): void
  /** What a negative result says. */
  error(result: number): Error
  /** Once nothing is under way. */
  close(): void
}

export interface StoreBatchOptions {
  readonly memory: ArrayBufferLike
  /** @param result bytes moved, fewer than asked for at the end of what is stored only; or a negative errno */
  readonly done: (tag: number, result: number) => void
  /** Told after one or several results that came outside of `submit`. */
  readonly turned: () => void
}
