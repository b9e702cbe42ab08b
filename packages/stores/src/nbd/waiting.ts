/**
 * Requests that wait until they can be sent. While no connection is open, each waits for a limited
 * time only.
 */
import { NBD_CMD } from './protocol.ts'
import type { Request } from './connection.ts'

export class Waiting {
  readonly #longestMs: number
  readonly #giveUp: (request: Request) => void
  /** Waiting requests, in order. */
  #requests: Request[] = []
  /** Timer of the earliest deadline; set only while a request with a deadline waits. */
  #timer: NodeJS.Timeout | undefined

  constructor(longestMs: number, giveUp: (request: Request) => void) {
    this.#longestMs = longestMs
    this.#giveUp = giveUp
  }

  add(requests: readonly Request[]): void {
    this.#requests.push(...requests)
  }

  /**
   * Sets the deadlines of requests, because no connection is open. A request that loses a second
   * connection keeps its first deadline: the request itself may be what breaks connections.
   */
  limit(requests: readonly Request[] = this.#requests): void {
    const now = performance.now()
    for (const request of requests) request.giveUpAt ??= now + this.#longestMs
    this.#plan()
  }

  /** Takes all requests. Flushes come last, after the writes that were in flight with them. */
  take(): readonly Request[] {
    const requests = this.#requests.toSorted(
      (a, b) => Number(a.type === NBD_CMD.FLUSH) - Number(b.type === NBD_CMD.FLUSH),
    )
    this.#requests = []
    this.#plan()
    return requests
  }

  #plan(): void {
    clearTimeout(this.#timer)
    const first = Math.min(...this.#requests.map(({ giveUpAt = Infinity }) => giveUpAt))
    if (first === Infinity) return
    this.#timer = setTimeout(() => this.giveUpLate(), first - performance.now())
  }

  /** Gives up requests past their deadline, also ones that were sent again and lost again. */
  giveUpLate(): void {
    const now = performance.now()
    const isLate = ({ giveUpAt = Infinity }: Request): boolean => giveUpAt <= now
    const late = this.#requests.filter(isLate)
    this.#requests = this.#requests.filter((request) => !isLate(request))
    this.#plan()
    for (const request of late) this.#giveUp(request)
  }
}
