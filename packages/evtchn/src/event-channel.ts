/**
 * An event channel as a device uses it. Follows xen/include/public/event_channel.h and the rule of
 * /dev/xen/evtchn: delivering an event masks the port, and the owner unmasks it after the work.
 *
 * Events carry no data and coalesce: an event only says that there may be work. The channel
 * therefore keeps a level, not a count. An event that arrives while nobody waits is remembered, and
 * any number of them become one. The port stays masked until the owner asks for more, so a peer
 * that notifies without end costs one handler call per unmask, not one per notification (XSA-391).
 */
import type { EvtchnBinding, EvtchnPort } from '@xenkit/hypervisor'

/** State of the port between two events. */
type Level =
  /** Unmasked: the next event is delivered. */
  | 'armed'
  /** Event delivered and port masked; the owner hasn't seen the event yet. */
  | 'pending'
  /** Event handed to the owner; the port stays masked until the owner asks for the next one. */
  | 'taken'

/** Options of `EventChannel.wait` and `EventChannel.events`. */
export interface WaitOptions {
  /** Ends the wait when it aborts. No event is lost by that. */
  readonly signal?: AbortSignal
}

/**
 * One end of an event channel, used in one of two ways. `handle` runs a callback per wake-up, for a
 * ring's hot path. `wait` and `for await` suit code with asynchronous steps of its own.
 */
export class EventChannel implements Disposable {
  readonly #binding: EvtchnBinding
  #level: Level = 'armed'
  #closed = false
  /** The handler that `handle` set; undefined while the channel has none. */
  #run: (() => void) | undefined
  /** Resolves the pending `wait`; undefined while nobody waits. */
  #wake: (() => void) | undefined

  private constructor(bind: (onEvent: () => void) => EvtchnBinding) {
    this.#binding = bind(() => this.#delivered())
  }

  /**
   * Binds to the port that another domain opened for this one. The other end may have notified
   * before: check the ring once before you wait for the first event.
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

  /**
   * Binds to a virtual interrupt, an event that Xen itself sends, on VCPU 0.
   * @param o.virq a number of VIRQ in @xenkit/wire
   * @throws EvtchnError with errno EINVAL when there is no such interrupt, EEXIST when this domain
   *   has bound it (its kernel binds some), EBUSY when it is global and another domain's
   */
  static bindVirq(evtchn: EvtchnPort, o: { readonly virq: number }): EventChannel {
    return new EventChannel((onEvent) => evtchn.bindVirq(o, onEvent))
  }

  /** The local port, which a frontend publishes as its `event-channel` node. */
  get port(): number {
    return this.#binding.port
  }

  get closed(): boolean {
    return this.#closed
  }

  /**
   * Sends an event to the other end.
   * @throws EvtchnError once the channel is closed
   */
  notify(): void {
    this.#binding.notify()
  }

  /**
   * Calls `handler` once per wake-up from now on. If an event arrived before, calls it in a
   * microtask. The port is unmasked after `handler` returns. An event during its run then causes
   * another run, so no event is lost.
   * @param onError called with an error of `handler` (the port is unmasked all the same), or of the
   *   unmask
   * @throws TypeError if the channel has a handler already, or a `wait` is pending
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
   * Waits for an event newer than the last one that `wait` reported; returns at once if there is
   * one.
   * @returns true for an event, false once the channel is closed
   * @throws TypeError if the channel has a handler, or another `wait` is pending
   * @throws the signal's reason when it aborts
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

  /**
   * Yields once per wake-up until the channel is closed.
   * @throws TypeError if the channel has a handler, or a `wait` is pending
   * @throws the signal's reason when it aborts
   */
  async *events(o: WaitOptions = {}): AsyncGenerator<void, void, void> {
    while (await this.wait(o)) yield
  }

  [Symbol.asyncIterator](): AsyncGenerator<void, void, void> {
    return this.events()
  }

  /**
   * Unbinds the port. Afterwards no handler runs, no event is reported, and iterations end.
   * Idempotent.
   * @throws EvtchnError when the kernel refuses; the channel is closed all the same
   */
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
    // Set before the call, so that an adapter which delivers an event within `unmask` is handled
    // too.
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
