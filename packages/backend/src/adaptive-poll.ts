/**
 * Looking at a ring for a while before going to sleep. Waking up takes both sides longer than a
 * read from the page cache does: at depth 1 a guest gets half as much again. It costs processor
 * time where nothing comes, and the time of others on the same thread, so it is done only
 *
 * - when requests came soon after one another, and less and less often where it has been of no use:
 *   on a single processor the guest can't go on meanwhile, and each look costs a fifth of what a
 *   read takes;
 * - while no other ring of this thread had an event in between.
 */

/** Longest look: twice what waking up takes. */
const POLL_MS = 0.05
/**
 * Requests that come sooner than this after the last answer make a look worth its while: a look,
 * and waking up for nothing.
 */
const SOON_MS = 0.2
/**
 * Looks at the ring between two at the clock, of which each makes a number on the heap: some 10 us.
 */
const LOOKS = 512

/**
 * Most events without a look after one that was of no use: once in a thousand costs nothing, and
 * finds out that things have changed.
 */
const SKIPS_MAX = 1_023

let made = 0
/** Which ring of this thread had the latest event. */
let latest = 0

export class AdaptivePoll {
  /** Looks of the last run. */
  looks = 0
  readonly #number = ++made
  #emptySince = -Infinity
  #pays = false
  /** Events to come without a look, and how many there were to be after the last useless one. */
  #skips = 0
  #lastSkips = 0

  /** An event came. */
  woken(): void {
    if (this.#skips > 0) this.#skips--
    else if (!this.#pays) this.#pays = performance.now() - this.#emptySince < SOON_MS
    latest = this.#number
  }

  /**
   * Call it when the ring is empty.
   * @param drain takes what there is on the ring, and says how much
   * @returns what that returned last
   */
  run(drain: () => number): number {
    this.looks = 0
    if (this.#pays && latest === this.#number) {
      // Most is found by the first looks: the clock, which makes a number on the heap each time,
      // isn't needed for those.
      for (let begun = 0, now = 0; now - begun < POLL_MS; now = performance.now()) {
        for (let looks = 0; looks < LOOKS; looks++) {
          const count = drain()
          if (count > 0) {
            this.looks += looks
            this.#lastSkips = 0
            return count
          }
        }
        this.looks += LOOKS
        begun ||= performance.now()
      }
      this.#pays = false
      this.#skips = this.#lastSkips = Math.min(2 * this.#lastSkips + 1, SKIPS_MAX)
    }
    // Else nobody asks for it.
    if (this.#skips === 0) this.#emptySince = performance.now()
    return 0
  }
}
