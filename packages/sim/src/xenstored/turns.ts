/**
 * Divides the server's time. Connections with work take turns, each for a short slice, and after a
 * few slices the event loop continues. A client that floods the server delays others by one slice.
 */

/** Milliseconds per turn of the event loop. */
const TURN = 1
/** Milliseconds per connection; its last request may take longer. */
const SLICE = 0.25

interface Worker {
  /**
   * Works until the time `until`.
   * @returns whether there is more to do
   */
  work(until: number): boolean
}

/** The queue of connections with work. */
export class Turns {
  /** Connections in the order of their turns. */
  readonly #waiting = new Set<Worker>()
  #scheduled = false

  wake(worker: Worker): void {
    this.#waiting.add(worker)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    // A macrotask, so that a client which sends a request after each reply can't starve timers and
    // I/O.
    setImmediate(() => {
      this.#scheduled = false
      try {
        this.#turn()
      } finally {
        if (this.#waiting.size > 0) this.#schedule()
      }
    })
  }

  #turn(): void {
    const start = performance.now()
    // A connection that is added again during this loop gets its next slice in its turn.
    for (const worker of this.#waiting) {
      this.#waiting.delete(worker)
      const now = performance.now()
      if (worker.work(now + SLICE)) this.#waiting.add(worker)
      if (now - start >= TURN) return
    }
  }
}
