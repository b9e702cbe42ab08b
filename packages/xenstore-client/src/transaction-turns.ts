/**
 * Orders the transactions of one client. Concurrent ones would conflict with each other, and
 * xenstored limits how many a domain may have open.
 */

/**
 * Milliseconds after which the next transaction starts although the one before still runs. That one
 * may be slow, or may itself wait for the next.
 */
const TURN_MS = 1000
/** Most transactions open at one time. xenstored allows a domain 10, including its kernel's. */
const OPEN_MAX = 8

/** Queue of the transactions of one client. */
export class TransactionTurns {
  readonly #waiting = new Set<() => void>()
  #open = 0
  /** Timer of the transaction that still delays the next one. */
  #turn: ReturnType<typeof setTimeout> | undefined

  /**
   * Waits until the caller's transaction may start.
   * @returns a function to call once, when the transaction has ended
   * @throws the signal's reason when it aborts before
   */
  take(signal: AbortSignal | undefined): Promise<() => void> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      const start = (): void => {
        signal?.removeEventListener('abort', abort)
        resolve(this.#start())
      }
      const abort = (): void => {
        this.#waiting.delete(start)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
      this.#waiting.add(start)
      this.#next()
    })
  }

  #start(): () => void {
    const turn = setTimeout(() => this.#endTurn(turn), TURN_MS)
    this.#turn = turn
    this.#open++
    return () => {
      this.#open--
      this.#endTurn(turn)
    }
  }

  #endTurn(turn: ReturnType<typeof setTimeout>): void {
    clearTimeout(turn)
    if (this.#turn === turn) this.#turn = undefined
    this.#next()
  }

  #next(): void {
    if (this.#turn !== undefined || this.#open >= OPEN_MAX) return
    for (const start of this.#waiting) {
      this.#waiting.delete(start)
      return start()
    }
  }
}
