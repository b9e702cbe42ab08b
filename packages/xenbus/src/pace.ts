/**
 * Delays the offer of a device whose last lives were short. A guest that connects and breaks the
 * device in a loop would otherwise keep the backend's domain busy and fill its log (XSA-157).
 */

/** A life of this length clears the score. */
const LASTING_MS = 10_000
/**
 * Score of a short life. A proper close scores less, since a boot loader closes its disk before the
 * kernel opens it.
 */
const CLOSED = 1
const FAILED = 8
/**
 * Score up to which there is no delay: 16 short lives, or two that failed. Each further failure
 * doubles the delay.
 */
const FREE = 2 * FAILED
const DELAY_MIN_MS = 100
const DELAY_MAX_MS = 10_000

export class Pace {
  #score = 0
  #begunAt = 0
  #notBefore = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  /** Starts a life: the device is offered. */
  begin(): void {
    this.#begunAt = performance.now()
  }

  /** Ends a life. */
  end(how: 'closed' | 'failed'): void {
    const now = performance.now()
    if (now - this.#begunAt >= LASTING_MS) this.#score = 0
    this.#score += how === 'failed' ? FAILED : CLOSED
    if (this.#score <= FREE) return
    const doublings = (this.#score - FREE) / FAILED - 1
    this.#notBefore = now + Math.min(DELAY_MIN_MS * 2 ** Math.max(0, doublings), DELAY_MAX_MS)
  }

  /** Whether the device may be offered now. If not, `retry` is called once as soon as it may. */
  mayBegin(retry: () => void): boolean {
    clearTimeout(this.#timer)
    const delay = this.#notBefore - performance.now()
    if (delay <= 0) return true
    this.#timer = setTimeout(retry, delay)
    return false
  }

  /** Cancels a planned `retry`. */
  stop(): void {
    clearTimeout(this.#timer)
  }
}
