/**
 * Polls a ring before its server sleeps. A wake-up takes each side longer than a read from the page
 * cache: at depth 1, polling gives a guest half as many requests again. But polling costs processor
 * time, and delays other work of the thread. So a ring is polled only
 *
 * - while requests come soon after one another. Polls that found nothing become rarer and rarer: on
 *   a single processor the guest can't run during a poll, and each one costs a fifth of a read.
 * - while no other ring of this event loop has had an event since this ring's last one.
 */
import type { EventLoop } from '@xenkit/hypervisor'

/** Longest poll, in milliseconds: twice the time of a wake-up. */
const POLL_MS = 0.05
/**
 * Polling pays if the next event comes within this time after the ring ran empty, in milliseconds:
 * the cost of a poll and a needless wake-up.
 */
const SOON_MS = 0.2
/**
 * Looks at the ring between two readings of the clock: some 10 us. Each reading allocates a number
 * on the heap.
 */
const LOOKS = 512

/**
 * Most events without a poll after a useless one. One poll in a thousand events costs nothing, and
 * notices that the load has changed.
 */
const SKIPS_MAX = 1_023

/** Polls one ring before its server sleeps, if that pays. Each ring of an event loop has one. */
export class AdaptivePoll {
  /** Looks at the ring by the last `run`. */
  looks = 0
  readonly #loop: EventLoop
  #emptySince = -Infinity
  #pays = false
  /**
   * Events still to skip without a poll, and how many were to be skipped after the last useless
   * poll.
   */
  #skips = 0
  #lastSkips = 0

  constructor(loop: EventLoop) {
    this.#loop = loop
  }

  /** Reports an event of the ring. Call it for every event. */
  woken(): void {
    if (this.#skips > 0) this.#skips--
    else if (!this.#pays) this.#pays = performance.now() - this.#emptySince < SOON_MS
    this.#loop.lastWoken = this
  }

  /**
   * Polls, if that pays. Call it when the ring is empty.
   * @param drain takes the ring's messages, and returns how many
   * @returns what `drain` returned last, 0 without a poll
   */
  run(drain: () => number): number {
    this.looks = 0
    if (this.#pays && this.#loop.lastWoken === this) {
      // Read the clock only after LOOKS looks: most messages are found before that.
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
    // `woken` compares the time only if it skips no event.
    if (this.#skips === 0) this.#emptySince = performance.now()
    return 0
  }
}
