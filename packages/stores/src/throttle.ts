/**
 * Limits what a disk may take of its store, by token buckets: each fills at its rate up to its
 * burst, a call that finds too little waits until what it lacks has come in. Waiting calls start in
 * their order. A disk that nobody uses costs no timer.
 */
import type { BlockStore } from '@xenkit/block-store'
import { aroundStore } from './layer.ts'

export interface Rate {
  readonly perSecond: number
  /** What may be taken at once after a pause; default what comes in within a second. */
  readonly burst?: number
}

export interface ThrottleOptions {
  /**
   * Calls: reads, writes, flushes and discards. Requests of a guest for neighbouring sectors are
   * one call.
   */
  readonly calls?: Rate
  /** Bytes that are read and written. */
  readonly bytes?: Rate
}

/** @throws RangeError for a rate or burst that isn't positive */
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

  /** Takes what may not be there yet. @returns milliseconds until it is */
  take(count: number, now: number): number {
    this.#tokens =
      Math.min(this.#burst, this.#tokens + (now - this.#filledAt) * this.#perMs) - count
    this.#filledAt = now
    return this.#tokens < 0 ? -this.#tokens / this.#perMs : 0
  }
}
