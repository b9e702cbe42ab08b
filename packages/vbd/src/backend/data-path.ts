/**
 * How a request's data moves between the guest's pages and the store. Each ring has one path,
 * chosen when it connects from the operator's option and the frontend's features.
 *
 * - `copy`: a grant copy into buffers of this domain. No page of the guest is mapped while the
 *   store works, and the guest can't change data of a write once it is fetched.
 * - `map`: the guest's pages are mapped for one request, and the store works on them directly.
 * - `persistent`: as `map`, but pages stay mapped for later requests that name them. Once all are
 *   mapped, moving data takes no hypercall. The frontend has to reuse its pages.
 */

export const DATA_PATHS = ['copy', 'map', 'persistent'] as const

/**
 * How a disk's data moves between guest and store: `copy`, `map` or `persistent`; see `dataPath` of
 * `ServeVbdOptions`.
 */
export type DataPathKind = (typeof DATA_PATHS)[number]

/**
 * Moves the data of one ring's requests. The functions are called for a row in this order:
 * `reserve`, `fetch`, `addViews`, `deliver`, `release`.
 */
export interface DataPath {
  /**
   * Finds a buffer for a request's data, or maps its pages, and sets the row's `offset`. Where the
   * guest is to blame for a failure, it sets the row's `status` instead.
   * @returns false if other requests have to be released first, of this ring or of one that shares
   *   the memory
   */
  reserve(row: number): boolean
  /**
   * Fetches the data of the writes among `rows[first]` to `rows[end - 1]`. Sets the `status` of a
   * row whose data can't be fetched.
   */
  fetch(rows: Uint16Array, first: number, end: number): void
  /**
   * Appends views of the row's data, for a store call, to `to`. Memory for a read is zeroed, or is
   * the guest's own.
   */
  addViews(row: number, to: Uint8Array[]): void
  /**
   * Delivers the data of the reads among the first `count` of `rows` to the guest. Sets the
   * `status` of a row for which that fails.
   */
  deliver(rows: Uint16Array, count: number): void
  /** Frees the row's buffer or unmaps its pages, before its response is published (XSA-396). */
  release(row: number): void
  close(): void
}
