/**
 * Polling of a ring before its server goes to sleep. A wake-up takes both sides longer than a read
 * from the page cache: at depth 1 polling gives a guest half as many requests again. It costs
 * processor time where nothing comes, and the time of others on the same thread, so a ring is
 * polled only
 *
 * - when requests came soon after one another, and less and less often where polling found nothing:
 *   on a single processor the guest can't run meanwhile, and each poll costs a fifth of a read;
 * - while no other ring of this event loop had an event in between.
 */
import type { EventLoop } from '@xenkit/hypervisor'

/** Longest poll: twice what a wake-up takes. */
const POLL_MS = 0.05
/**
 * Requests that come sooner than this after the last answer make a poll worth its while: a poll,
 * and a wake-up for nothing.
 */
const SOON_MS = 0.2
/** Looks at the ring between two readings of the clock, each a number on the heap: some 10 us. */
const LOOKS = 512

/**
 * Most events without a poll after one that found nothing: once in a thousand costs nothing, and
 * notices that things have changed.
 */
const SKIPS_MAX = 1_023

/** Polls one ring before its server sleeps, where that pays: one for each ring of an event loop. */
export class AdaptivePoll {
  /** Looks of the last run. */
  looks = 0
  readonly #loop: EventLoop
  #emptySince = -Infinity
  #pays = false
  /** Events to come without a poll, and how many there were to be after the last useless one. */
  #skips = 0
  #lastSkips = 0

  constructor(loop: EventLoop) {
    this.#loop = loop
  }

  /** Reports an event of the ring's. */
  woken(): void {
    if (this.#skips > 0) this.#skips--
    else if (!this.#pays) this.#pays = performance.now() - this.#emptySince < SOON_MS
    this.#loop.lastWoken = this
  }

  /**
   * Polls, where that pays. Call it when the ring is empty.
   * @param drain takes the ring's messages, and returns how many
   * @returns what `drain` returned last
   */
  run(drain: () => number): number {
    this.looks = 0
    if (this.#pays && this.#loop.lastWoken === this) {
      // Most messages are found by the first looks, which do without the clock.
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
    // The time is needed only where the next event is compared with it.
    if (this.#skips === 0) this.#emptySince = performance.now()
    return 0
  }
}
