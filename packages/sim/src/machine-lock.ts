/**
 * The machine lock: one futex word that makes each hypercall whole, from whichever thread it comes.
 *
 * The word holds 0 or the holder's domid + 1, so that a holder which was terminated inside a hypercall
 * is known by name: destroying its domain takes the lock away from it.
 */

const FREE = 0
/** Set by whoever goes to sleep; the holder then wakes one sleeper when it leaves. */
const WAITERS = 1 << 16
/** A hypercall takes a few microseconds: looking again is cheaper than the 50 us of a sleep and a wake-up. */
const SPINS = 200
/** Thousands of times the longest hypercall: a holder that is still there was terminated, or waits very long for a processor. */
const PATIENCE_MS = 2000
/** With a holder whose domain is being destroyed. */
const PATIENCE_WITH_DEAD_MS = 500

export class MachineLock {
  readonly #words: Int32Array
  readonly #index: number

  constructor(words: Int32Array, index: number) {
    this.#words = words
    this.#index = index
  }

  /**
   * Takes the lock for `domid`.
   * @param dead domains that are being destroyed: the lock is taken from them
   * @returns whether it was, and its hypercall remained half done
   * @throws Error when another holder doesn't leave
   */
  acquire(domid: number, dead: readonly number[] = []): boolean {
    const mine = domid + 1
    for (let spin = 0; spin < SPINS; spin++) {
      if (Atomics.compareExchange(this.#words, this.#index, FREE, mine) === FREE) return false
    }
    const start = performance.now()
    for (;;) {
      const seen = Atomics.load(this.#words, this.#index)
      if (seen === FREE) {
        // Others may still sleep: who has slept wakes one when it leaves, whether there is one or not.
        if (Atomics.compareExchange(this.#words, this.#index, FREE, mine | WAITERS) === FREE) return false
        continue
      }
      const holder = (seen & ~WAITERS) - 1
      const patience = start + (dead.includes(holder) ? PATIENCE_WITH_DEAD_MS : PATIENCE_MS) - performance.now()
      if (patience > 0) {
        if (Atomics.compareExchange(this.#words, this.#index, seen, seen | WAITERS) === seen) {
          Atomics.wait(this.#words, this.#index, seen | WAITERS, patience)
        }
      } else if (!dead.includes(holder)) {
        throw new Error(`the machine is held by a hypercall of domain ${holder}: if its thread was terminated, destroy the domain`)
      } else if (Atomics.compareExchange(this.#words, this.#index, seen, mine | WAITERS) === seen) {
        return true
      }
    }
  }

  /** Leaves. Without effect for a domain from which the lock was taken. */
  release(domid: number): void {
    for (;;) {
      const seen = Atomics.load(this.#words, this.#index)
      if ((seen & ~WAITERS) !== domid + 1) return
      if (Atomics.compareExchange(this.#words, this.#index, seen, FREE) !== seen) continue
      if (seen & WAITERS) Atomics.notify(this.#words, this.#index, 1)
      return
    }
  }
}
