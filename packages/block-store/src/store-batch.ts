/**
 * Reads and writes of a store, many with one call and without an object for any: for stores whose
 * bytes something faster than JavaScript can move, straight between where they are kept and the
 * memory that holds requests' data.
 */

/**
 * Describes reads and writes, each a job with a number, in columns: of all that is said here, the
 * entry of a job is at its number. It is read when the job is started and free after that.
 */
export interface StoreJobs {
  /** Numbers of the jobs of a call: those to start, then those that were done at once. */
  readonly list: Uint32Array
  /** 0 to read, 1 to write. */
  readonly operation: Uint8Array
  /** First byte in the store. */
  readonly position: Float64Array
  /** Pieces of memory, 1..`pieces`. */
  readonly count: Uint32Array
  /**
   * Of piece `i` of a job, at `number * pieces + i`: where in memory it begins, and how many bytes
   * it has, 1 or more.
   */
  readonly offset: Uint32Array
  readonly bytes: Uint32Array
  /**
   * Of a job that is done: bytes moved, fewer than asked for at the end of what is stored only; or
   * a negative errno.
   */
  readonly result: Int32Array
}

export interface StoreBatch {
  readonly jobs: StoreJobs
  /**
   * Starts the first `count` jobs of the list, none of which is under way. Those that are done at
   * once are at its beginning then. Of the others it may put off what it does until `proceed`, so
   * that one wake of whoever does it is enough for all.
   * @returns how many are
   */
  start(count: number): number
  /**
   * Everything goes on that was put off. What it throws closes the disk, once all jobs that are
   * under way are done.
   */
  proceed(): void
  /** What a negative result says. */
  error(result: number): Error
  /** Once nothing is under way. */
  close(): void
}

export interface StoreBatchOptions {
  readonly memory: ArrayBufferLike
  /** How many jobs there may be, 1..32768, and of how many pieces of memory each, 1..1024. */
  readonly capacity: { readonly jobs: number; readonly pieces: number }
  /** A job is done that was not at once. */
  readonly done: (job: number) => void
  /** Told after one or several of those. */
  readonly turned: () => void
}
