/**
 * Divides work on a ring into turns. Events coalesce, and one may be for work that was already
 * done, so a turn checks everything and returns whether it found work. If it did, another turn
 * follows after the rest of the event loop had its turn. The port stays masked until a turn finds
 * nothing, and unmasking delivers an event that came meanwhile. So no event is lost, and a peer
 * that sends events or work without end costs one bounded turn per round of the event loop.
 */
import type { EvtchnBinding } from '@xenkit/hypervisor'

/** Binds to an event channel. The channel stays bound while the ring is used. */
export type Bind = (onEvent: () => void) => EvtchnBinding

/** Schedules the turns of one end of a ring. */
export class RingTurns {
  readonly #turn: () => boolean
  readonly #onError: (error: unknown) => void
  readonly #channel: EvtchnBinding
  /**
   * Whether the port is masked: an event was delivered, and the port hasn't been unmasked since.
   */
  #masked = false
  #scheduled = false
  #closed = false

  /**
   * @param turn does a bounded amount of work, and returns whether there may be more
   * @param onError called when the channel has failed and no further event will arrive
   */
  constructor(bind: Bind, turn: () => boolean, onError: (error: unknown) => void) {
    this.#turn = turn
    this.#onError = onError
    this.#channel = bind(() => {
      this.#masked = true
      if (!this.#scheduled) this.run()
    })
  }

  /** Schedules a turn without an event. */
  schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.run()
    })
  }

  /** Runs a turn now, unless closed. */
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

  /** Unbinds the channel; no further turn runs. Idempotent. */
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
