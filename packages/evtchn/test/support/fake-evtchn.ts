/**
 * A fake event channel with one port, which behaves as in Xen and /dev/xen/evtchn. It has a pending
 * bit and a mask bit, and delivery sets the mask. An event is delivered when the test calls
 * `deliver`, or within `unmask` if `deliversInUnmask` is set.
 */
import type { EvtchnBinding, EvtchnPort } from '@xenkit/hypervisor'

export class FakeEvtchn implements EvtchnPort {
  pending = false
  masked = false
  closed = false
  /** Number of `notify` calls by the channel under test; `unmasks` counts its `unmask` calls. */
  notifications = 0
  unmasks = 0
  /** Whether `unmask` delivers a pending event before it returns. */
  deliversInUnmask = false
  /** The error that `unmask` throws, if set. */
  refusesUnmask: Error | undefined
  #onEvent: (() => void) | undefined

  bindInterdomain(
    _o: { readonly domid: number; readonly port: number },
    onEvent: () => void,
  ): EvtchnBinding {
    return this.#bind(onEvent)
  }

  bindUnbound(_o: { readonly domid: number }, onEvent: () => void): EvtchnBinding {
    return this.#bind(onEvent)
  }

  bindVirq(_o: { readonly virq: number }, onEvent: () => void): EvtchnBinding {
    return this.#bind(onEvent)
  }

  /** Makes an event pending, as a notification by the other end does. */
  send(): void {
    this.pending = true
  }

  /**
   * Delivers the port's pending event, as the event loop would.
   * @returns whether an event was delivered
   */
  deliver(): boolean {
    if (!this.pending || this.masked || this.closed) return false
    this.pending = false
    this.masked = true
    this.#onEvent?.()
    return true
  }

  sendAndDeliver(): boolean {
    this.send()
    return this.deliver()
  }

  #bind(onEvent: () => void): EvtchnBinding {
    this.#onEvent = onEvent
    const close = (): void => {
      this.closed = true
    }
    return {
      port: 7,
      notify: () => {
        this.notifications++
      },
      unmask: () => {
        if (this.closed) throw new Error('unmask of a closed port')
        if (!this.masked) throw new Error('unmask of a port that is not masked')
        if (this.refusesUnmask) throw this.refusesUnmask
        this.unmasks++
        this.masked = false
        if (this.deliversInUnmask) this.deliver()
      },
      close,
      [Symbol.dispose]: close,
    }
  }
}
