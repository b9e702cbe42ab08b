/**
 * Limits a disk's use of its store by token buckets. A bucket fills at its rate up to its burst; a
 * call that finds too few tokens waits for more. Waiting calls start in order. An idle disk needs
 * no timer.
 */
import type { BlockStore } from '@xenkit/block-store'
import { aroundStore } from './layer.ts'

/** Rate of a token bucket, in calls or bytes. */
export interface Rate {
  /** Tokens that come in per second: positive. */
  readonly perSecond: number
  /** Most tokens that can be taken at once after a pause: positive, default `perSecond`. */
  readonly burst?: number
}

/** Options of `throttledStore`. */
export interface ThrottleOptions {
  /**
   * Limit of calls: reads, writes, flushes and discards. A guest's requests for neighbouring
   * sectors are one call.
   */
  readonly calls?: Rate
  /** Limit of bytes that are read and written. */
  readonly bytes?: Rate
}

/**
 * Limits the rate of a store's calls and bytes.
 * @throws RangeError for a rate or burst that isn't positive
 */
export function throttledStore(base: BlockStore, o: ThrottleOptions): BlockStore {
  const calls = o.calls && new Bucket('calls', o.calls)
  const bytes = o.bytes && new Bucket('bytes', o.bytes)
  return aroundStore(base, async (call, run) => {
    const now = performance.now()
    const wait = Math.max(
      calls?.take(1, now) ?? 0,
      bytes?.take(call.kind === 'discard' ? 0 : call.bytes, now) ?? 0,
    )
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    await run()
  })
}

class Bucket {
  readonly #perMs: number
  readonly #burst: number
  #tokens: number
  #filledAt = 0

  constructor(name: string, { perSecond, burst = perSecond }: Rate) {
    for (const [key, value] of Object.entries({ perSecond, burst })) {
      if (!(value > 0 && value < Infinity)) {
        throw new RangeError(`"${name}.${key}" expected a positive number, got ${value}`)
      }
    }
    this.#perMs = perSecond / 1000
    this.#burst = burst
    this.#tokens = burst
  }

  /**
   * Takes tokens. If there are too few, the balance becomes negative.
   * @returns milliseconds until the balance is 0 again
   */
  take(count: number, now: number): number {
    this.#tokens =
      Math.min(this.#burst, this.#tokens + (now - this.#filledAt) * this.#perMs) - count
    this.#filledAt = now
    return this.#tokens < 0 ? -this.#tokens / this.#perMs : 0
  }
}
