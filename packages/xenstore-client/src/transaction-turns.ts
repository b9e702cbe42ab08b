/**
 * Orders the transactions of one client. Concurrent ones would conflict with each other, and
 * xenstored limits how many a domain may have open.
 */

/** Milliseconds that a transaction holds up the next. It may be slow, or wait for that very one. */
const TURN_MS = 1000
/** Transactions that are open at most. xenstored allows a domain 10, its kernel's included. */
const OPEN_MAX = 8

export class TransactionTurns {
  readonly #waiting = new Set<() => void>()
  #open = 0
  /** Runs while a transaction keeps the next one waiting. */
  #turn: ReturnType<typeof setTimeout> | undefined

  /**
   * Resolves when it is the caller's turn.
   * @returns what ends the transaction, to be called once
   * @throws the signal's reason when it is aborted first
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
