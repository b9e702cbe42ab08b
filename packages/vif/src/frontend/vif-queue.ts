/** One queue of a network card: its two rings, which may share an event channel. */
import type { RxRing } from './rx-ring.ts'
import type { TxRing } from './tx-ring.ts'

/** Handles a queue's events. */
export class VifQueue {
  readonly tx: TxRing
  readonly #rx: RxRing
  /** Settle the promises of `writable`. */
  readonly #waiting: (() => void)[] = []
  #receives = false
  #failure: { readonly error: unknown } | undefined

  constructor(tx: TxRing, rx: RxRing) {
    this.tx = tx
    this.#rx = rx
  }

  /**
   * Starts to handle events. Received frames wait in the ring until `receive`.
   * @param failed called with an error of a ring, or of the listener to received frames
   */
  start(failed: (error: unknown) => void): void {
    const [tx, rx] = [this.tx.channel, this.#rx.channel]
    if (tx === rx) {
      const drain = (): void => {
        this.#drainTx()
        this.#drainRx()
      }
      tx.handle(drain, failed)
    } else {
      tx.handle(() => this.#drainTx(), failed)
      rx.handle(() => this.#drainRx(), failed)
    }
  }

  /** Starts to take received frames, in a microtask first. */
  receive(failed: (error: unknown) => void): void {
    if (this.#receives) return
    this.#receives = true
    queueMicrotask(() => {
      try {
        this.#drainRx()
      } catch (error) {
        failed(error)
      }
    })
  }

  /**
   * Resolves when there is room for a frame of any length.
   * @throws the error of `fail`
   */
  async writable(): Promise<void> {
    for (;;) {
      if (this.#failure) throw this.#failure.error
      if (this.tx.hasRoom) return
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }

  /** Stops: passes on no more frames, and rejects the promises of `writable`. */
  fail(error: unknown): void {
    this.#failure = { error }
    this.#wake()
  }

  #drainTx(): void {
    if (this.#failure) return
    do this.tx.drain()
    while (this.tx.finalCheck())
    if (this.tx.hasRoom) this.#wake()
  }

  #drainRx(): void {
    if (!this.#receives) return
    do {
      if (this.#failure) return
      this.#rx.drain()
    } while (this.#rx.finalCheck())
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
