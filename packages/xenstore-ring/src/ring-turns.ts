/**
 * Work on a ring in turns. An event says "look", no more: events coalesce, and one may come for
 * what was seen already. So a turn looks at everything and says whether it found something; then
 * another turn follows, after the rest of the event loop had its own. The port stays masked until a
 * turn finds nothing, and an event that came meanwhile is delivered then: none is lost, and a peer
 * that sends events, or work, without end costs one bounded turn per round of the event loop.
 */
import type { EvtchnBinding } from '@xenkit/hypervisor'

/** Binds to an event channel for as long as the ring is used. */
export type Bind = (onEvent: () => void) => EvtchnBinding

export class RingTurns {
  readonly #turn: () => boolean
  readonly #onError: (error: unknown) => void
  readonly #channel: EvtchnBinding
  /** The port is: an event was delivered, and it wasn't unmasked since. */
  #masked = false
  #scheduled = false
  #closed = false

  /**
   * @param turn does a bounded amount of work, and returns whether there may be more
   * @param onError hears that the channel failed: no event will come any more
   */
  constructor(bind: Bind, turn: () => boolean, onError: (error: unknown) => void) {
    this.#turn = turn
    this.#onError = onError
    this.#channel = bind(() => {
      this.#masked = true
      if (!this.#scheduled) this.run()
    })
  }

  /** Runs a turn soon, without an event. */
  schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.run()
    })
  }

  /** Runs a turn now, unless it is closed. */
  run(): void {
    if (this.#closed) return
    const more = this.#turn()
    if (this.#closed) return
    if (more) this.schedule()
    else if (this.#masked) this.#unmask()
  }

  notify(): void {
    this.#channel.notify()
  }

  /** Unbinds; no turn runs any more. Idempotent. */
  close(): void {
    this.#closed = true
    this.#channel.close()
  }

  #unmask(): void {
    this.#masked = false
    try {
      this.#channel.unmask()
    } catch (error) {
      this.#onError(error)
    }
  }
}
