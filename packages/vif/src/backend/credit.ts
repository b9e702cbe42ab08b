/**
 * The rate limit of a card's guest: it may send so many bytes in each period. The toolstack's node
 * `rate` sets it, and may change it while the guest sends.
 *
 * Credit that isn't used is kept up to a burst, which lets the largest packet through whatever the
 * rate is. Queues that have no credit wait for the next period, the longest-waiting one first.
 */
import type { VifRate } from '../requested-card.ts'

/** Most unused credit in bytes, unless a period's is more: two of the largest packets. */
const BURST = 128 * 1024

/** Longest time of a timer, in milliseconds. */
const TIMER_MAX_MS = 2 ** 31 - 1

/** The credit of one card, shared by its queues. */
export class Credit implements Disposable {
  #rate: VifRate | undefined
  #left = 0
  /** Start of the current period, in milliseconds. */
  #since = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  readonly #waiting: (() => void)[] = []
  readonly #wakeFirst = (): void => {
    this.#timer = undefined
    this.#waiting[0]?.()
  }

  /** @param rate default: no limit */
  constructor(rate?: VifRate) {
    this.change(rate)
  }

  get rate(): VifRate | undefined {
    return this.#rate
  }

  /** Changes the rate from now on. @param rate undefined: no limit */
  change(rate: VifRate | undefined): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#rate = rate
    this.#left = rate?.bytes ?? 0
    this.#since = performance.now()
    for (const wake of this.#waiting.splice(0)) wake()
  }

  /**
   * Spends credit for a packet, if there is enough and no other caller has waited longer.
   * @param wake identifies the caller, and is called when another attempt may succeed
   * @returns whether the packet may be sent
   */
  spend(bytes: number, wake: () => void): boolean {
    if (!this.#rate) return true
    const first = this.#waiting[0]
    if (first === undefined || first === wake) {
      if (bytes > this.#left) this.#refill(this.#rate)
      if (bytes <= this.#left) {
        this.#left -= bytes
        if (first) this.#waiting.shift()
        if (this.#waiting.length > 0) this.#wakeAfter(0)
        return true
      }
    }
    if (!this.#waiting.includes(wake)) this.#waiting.push(wake)
    this.#wakeAfter(this.#since + this.#rate.periodUs / 1000 - performance.now())
    return false
  }

  /** Removes a caller that sends no more, if it waits. */
  forget(wake: () => void): void {
    const at = this.#waiting.indexOf(wake)
    if (at >= 0) this.#waiting.splice(at, 1)
    if (this.#waiting.length > 0) this.#wakeAfter(0)
  }

  /** Wakes nobody any more. */
  close(): void {
    clearTimeout(this.#timer)
    this.#waiting.length = 0
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #refill({ bytes, periodUs }: VifRate): void {
    const period = periodUs / 1000
    const periods = Math.floor((performance.now() - this.#since) / period)
    if (periods < 1) return
    this.#since += periods * period
    this.#left = Math.min(this.#left + periods * bytes, Math.max(BURST, bytes))
  }

  #wakeAfter(ms: number): void {
    this.#timer ??= setTimeout(this.#wakeFirst, Math.min(Math.ceil(ms), TIMER_MAX_MS))
  }
}
