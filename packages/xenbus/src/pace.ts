/**
 * How soon a device is offered again. A guest that connects, breaks the device and connects again
 * would otherwise have its backend's domain work for nothing, and fill its log (XSA-157).
 */

/** A life that lasts this long was no quick one: those before it are forgotten. */
const LASTING_MS = 10_000
/**
 * What a quick life counts: a boot loader that hands its disk on to a kernel closes it properly.
 */
const CLOSED = 1
const FAILED = 8
/**
 * What may happen without a delay: 16 quick lives, or two that failed. Each failure more doubles
 * the delay.
 */
const FREE = 2 * FAILED
const DELAY_MIN_MS = 100
const DELAY_MAX_MS = 10_000

export class Pace {
  #score = 0
  #begunAt = 0
  #notBefore = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  /** The device is offered, from now on. */
  begin(): void {
    this.#begunAt = performance.now()
  }

  /** It is closed, or has failed. */
  end(how: 'closed' | 'failed'): void {
    const now = performance.now()
    if (now - this.#begunAt >= LASTING_MS) this.#score = 0
    this.#score += how === 'failed' ? FAILED : CLOSED
    if (this.#score <= FREE) return
    const doublings = (this.#score - FREE) / FAILED - 1
    this.#notBefore = now + Math.min(DELAY_MIN_MS * 2 ** Math.max(0, doublings), DELAY_MAX_MS)
  }

  /** Whether the device may be offered now; if not, `retry` is called once when it may. */
  mayBegin(retry: () => void): boolean {
    clearTimeout(this.#timer)
    const delay = this.#notBefore - performance.now()
    if (delay <= 0) return true
    this.#timer = setTimeout(retry, delay)
    return false
  }

  /** Calls nobody any more. */
  stop(): void {
    clearTimeout(this.#timer)
  }
}
