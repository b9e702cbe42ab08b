/**
 * The machine lock: a futex word that makes every hypercall atomic, from any thread.
 *
 * The word holds the holder's domid + 1. A holder whose thread was terminated inside a hypercall is
 * therefore known, and destroying its domain takes the lock from it. The word also counts turns, so
 * that one holder that never leaves differs from one that enters again and again.
 */

/** The holder's domid + 1; 0 while the lock is free. */
const HOLDER = 0xffff
/**
 * Set by a thread before it sleeps. The holder then wakes one sleeper when it leaves, and that
 * sleeper takes the lock.
 */
const WAITERS = 1 << 16
/** One turn in the word's other 15 bits, which count how often the lock was taken. */
const TURN = 1 << 17
const TURNS = ~(HOLDER | WAITERS)
/** Checks before sleeping. A hypercall takes a few microseconds, a sleep and a wake-up 50 us. */
const SPINS = 200
/** Milliseconds during which only a woken sleeper may take the free lock. */
const PRECEDENCE_MS = 1
/**
 * Milliseconds to wait for one holder: thousands of times the longest hypercall. A holder that
 * stays longer was terminated, or waits very long for a processor.
 */
const PATIENCE_MS = 2000
/** Milliseconds to wait for a holder whose domain is being destroyed. */
const PATIENCE_WITH_DEAD_MS = 500

/** The lock; `acquire` and `release` are called in pairs and don't nest. */
export class MachineLock {
  readonly #words: Int32Array
  readonly #index: number

  constructor(words: Int32Array, index: number) {
    this.#words = words
    this.#index = index
  }

  /**
   * Takes the lock for `domid`.
   * @param dead domains that are being destroyed, from which the lock may be taken
   * @returns whether it was taken from a dead domain, whose hypercall remained incomplete
   * @throws Error when another holder doesn't leave
   */
  acquire(domid: number, dead: readonly number[] = []): boolean {
    const mine = domid + 1
    for (let spin = 0; spin < SPINS; spin++) {
      const seen = this.#load()
      if ((seen & (HOLDER | WAITERS)) === 0 && this.#replace(seen, nextTurn(seen) | mine)) {
        return false
      }
    }
    let turn = this.#load() & TURNS
    let since = performance.now()
    let slept = false
    for (;;) {
      const seen = this.#load()
      const holder = (seen & HOLDER) - 1
      if (holder < 0) {
        if (slept || (seen & WAITERS) === 0) {
          // More threads may be asleep. So a thread that has slept always wakes another one when it
          // leaves.
          if (this.#replace(seen, nextTurn(seen) | mine | WAITERS)) return false
        } else {
          slept = true
          Atomics.wait(this.#words, this.#index, seen, PRECEDENCE_MS)
        }
        continue
      }
      if ((seen & TURNS) !== turn) {
        turn = seen & TURNS
        since = performance.now()
      }
      const patience =
        since + (dead.includes(holder) ? PATIENCE_WITH_DEAD_MS : PATIENCE_MS) - performance.now()
      if (patience > 0) {
        if (this.#replace(seen, seen | WAITERS)) {
          slept = true
          Atomics.wait(this.#words, this.#index, seen | WAITERS, patience)
        }
      } else if (!dead.includes(holder)) {
        throw new Error(
          `the machine is held by a hypercall of domain ${holder}: if its thread was terminated, destroy the domain`,
        )
      } else if (this.#replace(seen, nextTurn(seen) | mine | WAITERS)) {
        return true
      }
    }
  }

  /** Leaves the lock. Does nothing if the lock was taken from this domain. */
  release(domid: number): void {
    for (;;) {
      const seen = this.#load()
      if ((seen & HOLDER) !== domid + 1) return
      if (!this.#replace(seen, seen & ~HOLDER)) continue
      // No thread was asleep, so newcomers may take the lock at once.
      if (seen & WAITERS && Atomics.notify(this.#words, this.#index, 1) === 0) {
        this.#replace(seen & ~HOLDER, seen & TURNS)
      }
      return
    }
  }

  #load(): number {
    return Atomics.load(this.#words, this.#index)
  }

  #replace(seen: number, value: number): boolean {
    return Atomics.compareExchange(this.#words, this.#index, seen, value) === seen
  }
}

const nextTurn = (word: number): number => ((word & TURNS) + TURN) | 0
