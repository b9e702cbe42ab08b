/**
 * An event channel as its owner uses it. Follows xen/include/public/event_channel.h and the rule of
 * /dev/xen/evtchn: a delivered event masks the port, and the port is unmasked once the work is
 * done.
 *
 * Events carry no data and coalesce. An event says "look", so it is kept as a level: one that
 * arrives while nobody looks is remembered, any number of them are one. And since the port stays
 * masked until the owner asks for more, a peer that notifies without end costs one turn of work per
 * look, not one callback per notification (XSA-391).
 */
import type { EvtchnBinding, EvtchnPort } from '@xenkit/hypervisor'

/** Where the port is between two events. */
type Level =
  /** Unmasked: the next event is delivered. */
  | 'armed'
  /** Delivered and masked; nobody has looked yet. */
  | 'pending'
  /** Masked while the owner works; unmasked when it asks for the next event. */
  | 'taken'

export interface WaitOptions {
  /** Gives up the waiting. An event isn't lost by that. */
  readonly signal?: AbortSignal
}

/**
 * One end of an event channel, used in one of two ways: `handle` runs a callback per wake, for a
 * ring's hot path; `wait` and `for await` suit everything that has steps of its own.
 */
export class EventChannel implements Disposable {
  readonly #binding: EvtchnBinding
  #level: Level = 'armed'
  #closed = false
  /** Set in handler mode. */
  #run: (() => void) | undefined
  /** Ends the one `wait` under way. */
  #wake: (() => void) | undefined

  private constructor(bind: (onEvent: () => void) => EvtchnBinding) {
    this.#binding = bind(() => this.#delivered())
  }

  /**
   * Binds to the port that another domain opened for this one. The other end may have notified
   * before: look once without waiting for an event.
   * @throws EvtchnError when there is no such unbound port
   */
  static bindInterdomain(
    evtchn: EvtchnPort,
    o: { readonly domid: number; readonly port: number },
  ): EventChannel {
    return new EventChannel((onEvent) => evtchn.bindInterdomain(o, onEvent))
  }

  /**
   * Opens a port that `domid` may bind to.
   * @throws EvtchnError when ports are used up
   */
  static bindUnbound(evtchn: EvtchnPort, o: { readonly domid: number }): EventChannel {
    return new EventChannel((onEvent) => evtchn.bindUnbound(o, onEvent))
  }

  /** The local port, which a frontend publishes as its `event-channel` node. */
  get port(): number {
    return this.#binding.port
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Sends an event to the other end. @throws EvtchnError once the channel is closed */
  notify(): void {
    this.#binding.notify()
  }

  /**
   * Runs `handler` once per wake from now on; an event that came before runs it soon. The port is
   * unmasked after it returns, so an event during its run gives one more run, and none is lost.
   * @param onError called with what `handler` throws (the port is unmasked all the same) or what
   *   the unmask throws
   * @throws TypeError if the channel has a handler or is waited on
   */
  handle(handler: () => void, onError: (error: unknown) => void): void {
    this.#expectUnused()
    const attempt = (step: () => void): void => {
      try {
        step()
      } catch (error) {
        onError(error)
      }
    }
    const arm = (): void => this.#arm()
    const run = (): void => {
      if (this.#closed) return
      try {
        attempt(handler)
      } finally {
        attempt(arm)
      }
    }
    this.#run = run
    if (this.#level !== 'armed') queueMicrotask(run)
  }

  /**
   * Waits for an event newer than the last one that `wait` told of; returns at once if there is
   * one.
   * @returns true for an event, false once the channel is closed
   * @throws TypeError if the channel has a handler or is waited on
   * @throws the signal's reason when that aborts
   */
  async wait({ signal }: WaitOptions = {}): Promise<boolean> {
    this.#expectUnused()
    signal?.throwIfAborted()
    if (this.#level === 'taken') this.#arm()
    if (this.#level === 'armed' && !this.#closed) await this.#nextDelivery(signal)
    if (this.#closed) return false
    this.#level = 'taken'
    return true
  }

  /** One turn per wake until the channel is closed. @throws the signal's reason when that aborts */
  async *events(o: WaitOptions = {}): AsyncGenerator<void, void, void> {
    while (await this.wait(o)) yield
  }

  [Symbol.asyncIterator](): AsyncGenerator<void, void, void> {
    return this.events()
  }

  /** Unbinds. No handler runs and no event is told of afterwards; iterations end. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#binding.close()
    this.#wake?.()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #delivered(): void {
    if (this.#closed) return
    this.#level = 'pending'
    this.#run?.()
    this.#wake?.()
  }

  #arm(): void {
    if (this.#closed) return
    // Before the call, so that an adapter that delivers within it, which none should, is
    // understood.
    this.#level = 'armed'
    this.#binding.unmask()
  }

  #nextDelivery(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => () => {
        this.#wake = undefined
        signal?.removeEventListener('abort', aborted)
        settle()
      }
      const aborted = end(() => reject(signal?.reason))
      this.#wake = end(resolve)
      signal?.addEventListener('abort', aborted)
    })
  }

  #expectUnused(): void {
    if (this.#run) throw new TypeError(`port ${this.port} has a handler`)
    if (this.#wake) throw new TypeError(`port ${this.port} is waited on already`)
  }
}
