/**
 * Delays the next offer of a device whose last connections were short. Otherwise a guest that
 * connects and breaks the device in a loop would keep the backend's domain busy and fill its log
 * (XSA-157).
 */

/** Milliseconds: a device that was served this long is offered again without delay. */
const LASTING_MS = 10_000
/**
 * Scores for a device that was served for less than `LASTING_MS`. A proper close scores less than a
 * failure, because a boot loader closes its disk before the kernel opens the disk again.
 */
const CLOSED = 1
const FAILED = 8
/**
 * Total score up to which there is no delay: 16 early closes, or two early failures. Each further
 * failure doubles the delay.
 */
const FREE = 2 * FAILED
const DELAY_MIN_MS = 100
const DELAY_MAX_MS = 10_000

export class Pace {
  #score = 0
  #begunAt = 0
  #notBefore = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  /** Records that the device is offered. */
  begin(): void {
    this.#begunAt = performance.now()
  }

  /** Records how the device's connection ended, and updates the score. */
  end(how: 'closed' | 'failed'): void {
    const now = performance.now()
    if (now - this.#begunAt >= LASTING_MS) this.#score = 0
    this.#score += how === 'failed' ? FAILED : CLOSED
    if (this.#score <= FREE) return
    const doublings = (this.#score - FREE) / FAILED - 1
    this.#notBefore = now + Math.min(DELAY_MIN_MS * 2 ** Math.max(0, doublings), DELAY_MAX_MS)
  }

  /**
   * Whether the device may be offered now. If not, calls `retry` once as soon as it may be offered.
   */
  mayBegin(retry: () => void): boolean {
    clearTimeout(this.#timer)
    const delay = this.#notBefore - performance.now()
    if (delay <= 0) return true
    this.#timer = setTimeout(retry, delay)
    return false
  }

  /** Cancels the call of `retry` that `mayBegin` has planned. */
  stop(): void {
    clearTimeout(this.#timer)
  }
}
