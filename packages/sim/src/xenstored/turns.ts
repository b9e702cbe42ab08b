/**
 * Divides the server's time between connections. Connections with work are served in rotation, each
 * for a short slice. After a few slices the event loop continues. So a client that floods the
 * server delays others by one slice.
 */

/** Milliseconds of work per round of the event loop. */
const TURN = 1
/** Milliseconds of work per connection and slice; the last request of a slice may take longer. */
const SLICE = 0.25

interface Worker {
  /**
   * Works until the time `until`, in ms of performance.now().
   * @returns whether there is more to do
   */
  work(until: number): boolean
}

/** The queue of connections with work. */
export class Turns {
  /** Connections with work, in the order in which they will be served. */
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
    // A connection that is added again during this loop waits for a later slice.
    for (const worker of this.#waiting) {
      this.#waiting.delete(worker)
      const now = performance.now()
      if (worker.work(now + SLICE)) this.#waiting.add(worker)
      if (now - start >= TURN) return
    }
  }
}
