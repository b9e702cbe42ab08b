/** `Reopening`: opens again what a link has lost, not too often. */

/** Event of a link whose far end is outside of this process. */
export type LinkEvent =
  /** `lost`: the far end ended. `unreachable`: opening it again failed. */
  | { readonly kind: 'lost' | 'unreachable'; readonly card: string; readonly error: Error }
  /** `reopened`: frames pass again. */
  | { readonly kind: 'reopened'; readonly card: string }

/** Milliseconds before the first attempt, doubled for each further one. */
const DELAY_MS = 100
/** Longest delay between attempts. What lasted longer resets the number of attempts. */
const DELAY_MAX_MS = 5000

export class Reopening {
  readonly #card: string
  readonly #onEvent: (event: LinkEvent) => void
  readonly #open: () => void | Promise<void>
  #attempts = 0
  #openedAt = performance.now()
  #timer: ReturnType<typeof setTimeout> | undefined
  #stopped = false

  /** @param open opens the far end again; it may throw */
  constructor(card: string, onEvent: (event: LinkEvent) => void, open: () => void | Promise<void>) {
    this.#card = card
    this.#onEvent = onEvent
    this.#open = open
  }

  /** Reports the loss of the far end, and opens it again after a while. */
  lost(error: unknown): void {
    if (performance.now() - this.#openedAt > DELAY_MAX_MS) this.#attempts = 0
    this.#failed('lost', error)
  }

  /** Ends the attempts. */
  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #failed(kind: 'lost' | 'unreachable', reason: unknown): void {
    if (this.#stopped) return
    const error = reason instanceof Error ? reason : new Error(String(reason))
    this.#onEvent({ kind, card: this.#card, error })
    const delay = Math.min(DELAY_MS * 2 ** this.#attempts++, DELAY_MAX_MS)
    this.#timer = setTimeout(() => void this.#attempt(), delay)
  }

  async #attempt(): Promise<void> {
    try {
      this.#openedAt = performance.now()
      await this.#open()
    } catch (error) {
      this.#failed('unreachable', error)
      return
    }
    if (!this.#stopped) this.#onEvent({ kind: 'reopened', card: this.#card })
  }
}
