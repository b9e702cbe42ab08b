/**
 * One port that behaves as in Xen and /dev/xen/evtchn: a pending bit, a mask bit, and delivery that
 * sets the mask. An event is delivered when the test calls `deliver`, or within `unmask`.
 */
import type { EvtchnBinding, EvtchnPort } from '@xenkit/hypervisor'

export class FakeEvtchn implements EvtchnPort {
  pending = false
  masked = false
  closed = false
  /** Calls that the channel under test made. */
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

  /** The other end notifies. */
  send(): void {
    this.pending = true
  }

  /**
   * Delivers a pending event, as the event loop would.
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
