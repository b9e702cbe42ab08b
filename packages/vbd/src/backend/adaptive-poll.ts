/**
 * Looking at a ring for a while before going to sleep. Waking up takes both sides longer than a read from
 * the page cache does: at depth 1 a guest gets half as much again. It costs processor time where nothing
 * comes, and the time of others on the same thread, so it is done only
 *
 * - when requests came soon after one another, until it was of no use once;
 * - while no other ring of this thread had an event in between.
 */

/** Longest look: twice what waking up takes. */
const POLL_MS = 0.05
/** Requests that come sooner than this after the last answer make a look worth its while: a look, and waking up for nothing. */
const SOON_MS = 0.2
/** Looks at the ring between two at the clock. */
const LOOKS = 32

/** Which ring of this thread had the latest event. */
let latest: AdaptivePoll | undefined

export class AdaptivePoll {
  #emptySince = -Infinity
  #pays = false

  /** An event came. */
  woken(): void {
    this.#pays ||= performance.now() - this.#emptySince < SOON_MS
    latest = this
  }

  /**
   * Call it when the ring is empty.
   * @param drain takes what there is on the ring, and says how much
   * @returns what that returned last
   */
  run(drain: () => number): number {
    const begun = performance.now()
    this.#emptySince = begun
    if (!this.#pays || latest !== this) return 0
    do {
      for (let looks = 0; looks < LOOKS; looks++) {
        const count = drain()
        if (count > 0) return count
      }
    } while (performance.now() - begun < POLL_MS)
    this.#pays = false
    this.#emptySince = performance.now()
    return 0
  }
}
