/**
 * Batches of reads and writes: many per call, without an object for each. They suit stores whose
 * bytes can be moved by something faster than JavaScript, directly between the store and the memory
 * that holds requests' data.
 */

/**
 * Columns that describe jobs. A job is one read or write and has a number, its index in each
 * column. `start` reads a job's entries; they may be changed after that.
 */
export interface StoreJobs {
  /** Job numbers: before `start` the jobs to start, afterwards those that completed at once. */
  readonly list: Uint32Array
  /** 0 to read, 1 to write. */
  readonly operation: Uint8Array
  /** First byte in the store. */
  readonly position: Float64Array
  /** Number of the job's pieces of memory, 1..`capacity.pieces`. */
  readonly count: Uint32Array
  /** First byte in memory of a job's piece `i`, at index `job * capacity.pieces + i`. */
  readonly offset: Uint32Array
  /** Bytes of the piece, 1 or more, at the same index. */
  readonly bytes: Uint32Array
  /**
   * Result of a completed job: a negative errno, or the bytes moved. Fewer bytes than requested
   * mean that the stored data ended.
   */
  readonly result: Int32Array
}

/** Submits reads and writes of one store, for one memory. */
export interface StoreBatch {
  readonly jobs: StoreJobs
  /**
   * Starts the first `count` jobs of `jobs.list`, none of which may be in flight. It may defer jobs
   * until `proceed`, so that one wake-up of a thread or the kernel serves all of them.
   * @returns how many completed at once: `jobs.list` begins with their numbers
   */
  start(count: number): number
  /**
   * Starts all deferred jobs. If it throws, the disk closes once all jobs in flight have completed.
   */
  proceed(): void
  /** The error that a negative result stands for. */
  error(result: number): Error
  /** Closes the batch. Allowed only when no job is in flight. */
  close(): void
}

/** How `BlockStore.openBatch` opens a batch. */
export interface StoreBatchOptions {
  /** Memory that the jobs' pieces lie in. */
  readonly memory: ArrayBufferLike
  /** Number of jobs, 1..32768, and most pieces of memory of one job, 1..1024. */
  readonly capacity: { readonly jobs: number; readonly pieces: number }
  /** Called when a job has completed asynchronously. */
  readonly done: (job: number) => void
  /** Called after one or several calls of `done`. */
  readonly turned: () => void
}
