/**
 * From a batch of pending ports to the handlers bound to them, and from unmasks to batches of
 * ports. Knows nothing of the device but a table of two pages and a function that unmasks.
 */

/** Ports in a page. */
export const BATCH = 1024

export class EventDispatch {
  readonly #pending: Uint32Array
  readonly #toUnmask: Uint32Array
  /** Unmasks the first `count` ports of the table's second half. */
  readonly #unmask: (count: number) => void
  readonly #handlers = new Map<number, () => void>()
  #unmasks = 0
  #dispatching = false

  /** @param table pending ports, then ports to unmask: 1024 each */
  constructor(table: Uint32Array, unmask: (count: number) => void) {
    this.#pending = table.subarray(0, BATCH)
    this.#toUnmask = table.subarray(BATCH, 2 * BATCH)
    this.#unmask = unmask
  }

  /** Ports with a handler. */
  get size(): number {
    return this.#handlers.size
  }

  add(port: number, handler: () => void): void {
    this.#handlers.set(port, handler)
  }

  remove(port: number): void {
    this.#handlers.delete(port)
  }

  /** Forgets every port, and unmasks that were still to be written. */
  clear(): void {
    this.#handlers.clear()
    this.#unmasks = 0
  }

  /**
   * Runs the handler of each of the first `count` pending ports. A port whose binding is gone, even
   * since a moment ago, is nobody's. What a handler throws is thrown once more in a microtask, as
   * an uncaught exception: the other ports have their turn first.
   */
  deliver(count: number): void {
    this.#dispatching = true
    for (let i = 0; i < count; i++) this.#handle(this.#pending[i] ?? 0)
    this.#dispatching = false
    this.#flush()
  }

  /** Runs all handlers, as if every port were pending; else as `deliver`. */
  deliverAll(): void {
    this.#dispatching = true
    // As they are now: a handler may open others.
    for (const port of Uint32Array.from(this.#handlers.keys())) this.#handle(port)
    this.#dispatching = false
    this.#flush()
  }

  /** Unmasks a port that has a handler: now or, during a dispatch, with others at its end. */
  unmask(port: number): void {
    if (!this.#handlers.has(port)) return
    if (this.#unmasks === BATCH) this.#flush()
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
