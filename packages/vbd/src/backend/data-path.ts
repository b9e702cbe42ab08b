/**
 * How a request's data gets from the guest's pages to the store and back. A ring has one path,
 * chosen when it connects: by what the operator wants and the frontend can do.
 *
 * - `copy`: a grant copy into buffers of this domain's. Nothing of the guest's is held while the
 *   store works, and what is written can't change after it was fetched.
 * - `map`: the guest's pages are mapped for the request alone and the store works on them.
 * - `persistent`: as `map`, but a page stays mapped for the next request that names it: no
 *   hypercall moves data once all pages are there. Needs a frontend that uses the same pages again.
 */

export const DATA_PATHS = ['copy', 'map', 'persistent'] as const

/** How a request's data moves between guest and store: `copy`, `map` or `persistent`. */
export type DataPathKind = (typeof DATA_PATHS)[number]

/** Rows go through these in order: reserve, fetch, views, deliver, release. */
export interface DataPath {
  /**
   * Finds room for a request's data, or its pages, and says where that is: the row's `offset`. What
   * can't be had because of the guest sets its `status`.
   * @returns false if other requests have to be released first: some are in use, of this ring or of
   *   one that shares the room
   */
  reserve(row: number): boolean
  /**
   * Gets the data of those rows, from one place to before another, that write. A row whose data
   * can't be had gets its `status` set.
   */
  fetch(rows: Uint16Array, first: number, end: number): void
  /**
   * Appends the row's data to what a store call is given. Memory for a read holds zeroes, or what
   * the guest had in its own pages.
   */
  addViews(row: number, to: Uint8Array[]): void
  /** Hands the data of reads to the guest. A row for which that fails gets its `status` set. */
  deliver(rows: Uint16Array, count: number): void
  /** The row holds nothing any more: before its answer is published (XSA-396). */
  release(row: number): void
  close(): void
}
