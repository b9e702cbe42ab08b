/**
 * Calls the handlers of pending ports, and collects ports to unmask into batches. The device itself
 * is elsewhere: this class has a table of two pages and a function that unmasks.
 */

/** Handlers by port. */
export class EventDispatch {
  readonly #pending: Uint32Array
  readonly #toUnmask: Uint32Array
  /** Unmasks the first `count` ports of the table's second half. */
  readonly #unmask: (count: number) => void
  readonly #handlers = new Map<number, () => void>()
  #unmasks = 0
  #dispatching = false

  /**
   * @param table its first half holds pending ports, its second half ports to unmask
   * @param unmask unmasks the first `count` ports of the second half
   */
  constructor(table: Uint32Array, unmask: (count: number) => void) {
    this.#pending = table.subarray(0, table.length / 2)
    this.#toUnmask = table.subarray(table.length / 2)
    this.#unmask = unmask
  }

  /** Number of ports with a handler. */
  get size(): number {
    return this.#handlers.size
  }

  add(port: number, handler: () => void): void {
    this.#handlers.set(port, handler)
  }

  remove(port: number): void {
    this.#handlers.delete(port)
  }

  /** Removes all handlers and all pending unmasks. */
  clear(): void {
    this.#handlers.clear()
    this.#unmasks = 0
  }

  /**
   * Runs the handlers of the first `count` pending ports. A port is skipped if its binding was
   * closed, even by an earlier handler. A handler's error is rethrown in a microtask, as an
   * uncaught exception, so that the other ports are served first.
   */
  deliver(count: number): void {
    this.#dispatching = true
    for (let i = 0; i < count; i++) this.#handle(this.#pending[i] ?? 0)
    this.#dispatching = false
    this.#flush()
  }

  /** Runs all handlers, as if every port were pending. Errors are treated as in `deliver`. */
  deliverAll(): void {
    this.#dispatching = true
    // A copy, because a handler may add ports.
    for (const port of Uint32Array.from(this.#handlers.keys())) this.#handle(port)
    this.#dispatching = false
    this.#flush()
  }

  /**
   * Unmasks a port that has a handler. While handlers run, the unmask is deferred until all have
   * run: then one call unmasks all ports.
   */
  unmask(port: number): void {
    if (!this.#handlers.has(port)) return
    if (this.#unmasks === this.#toUnmask.length) this.#flush()
    this.#toUnmask[this.#unmasks++] = port
    if (!this.#dispatching) this.#flush()
  }

  #handle(port: number): void {
    try {
      this.#handlers.get(port)?.()
    } catch (error) {
      queueMicrotask(() => {
        throw error
      })
    }
  }

  #flush(): void {
    const count = this.#unmasks
    this.#unmasks = 0
    if (count > 0) this.#unmask(count)
  }
}
