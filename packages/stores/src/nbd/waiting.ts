/** Requests that wait until they can be sent, none without a connection for longer than it may. */
import { NBD_CMD } from './protocol.ts'
import type { Request } from './connection.ts'

export class Waiting {
  readonly #longestMs: number
  readonly #giveUp: (request: Request) => void
  /** In order. */
  #requests: Request[] = []
  /** There only while something waits, and not for ever. */
  #timer: NodeJS.Timeout | undefined

  constructor(longestMs: number, giveUp: (request: Request) => void) {
    this.#longestMs = longestMs
    this.#giveUp = giveUp
  }

  add(requests: readonly Request[]): void {
    this.#requests.push(...requests)
  }

  /**
   * These, of those that wait, do so for want of a connection. Their time isn't begun again if they
   * are lost again: they may be why.
   */
  limit(requests: readonly Request[] = this.#requests): void {
    const now = performance.now()
    for (const request of requests) request.giveUpAt ??= now + this.#longestMs
    this.#plan()
  }

  /** All of them; flushes last, behind the writes that they were in flight with. */
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

  /** Gives up those whose time is up, some of which have been sent once more and lost again. */
  giveUpLate(): void {
    const now = performance.now()
    const isLate = ({ giveUpAt = Infinity }: Request): boolean => giveUpAt <= now
    const late = this.#requests.filter(isLate)
    this.#requests = this.#requests.filter((request) => !isLate(request))
    this.#plan()
    for (const request of late) this.#giveUp(request)
  }
}
