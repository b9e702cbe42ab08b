/**
 * Shares the server's time: connections with something to do take turns, each for a short slice,
 * and the event loop gets on after a few of them. A client that floods the server costs others one
 * slice.
 */

/** Milliseconds of one turn of the event loop. */
const TURN = 1
/** Milliseconds of one connection, of which the last request may take longer. */
const SLICE = 0.25

interface Worker {
  /** Works until that time at the latest. @returns whether there is more to do */
  work(until: number): boolean
}

export class Turns {
  /** In the order of their turns. */
  readonly #waiting = new Set<Worker>()
  #scheduled = false

  wake(worker: Worker): void {
    this.#waiting.add(worker)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    // A macrotask: a client that only ever waits for replies must not starve timers and I/O.
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
    // One that is added again while this runs comes to its next slice.
    for (const worker of this.#waiting) {
      this.#waiting.delete(worker)
      const now = performance.now()
      if (worker.work(now + SLICE)) this.#waiting.add(worker)
      if (now - start >= TURN) return
    }
  }
}
