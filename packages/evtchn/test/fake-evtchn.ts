/**
 * One port as Xen and /dev/xen/evtchn have it: a pending bit, a mask, and delivery that sets the
 * mask. Events are delivered when the test says so, or within `unmask` itself.
 */
import type { EvtchnBinding, EvtchnPort } from '@xenkit/hypervisor'

export class FakeEvtchn implements EvtchnPort {
  pending = false
  masked = false
  closed = false
  /** Calls of the owner. */
  notifications = 0
  unmasks = 0
  /** Whether an event that is already there is delivered by `unmask` before that returns. */
  deliversInUnmask = false
  /** What `unmask` throws. */
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

  /** The other end notifies. */
  send(): void {
    this.pending = true
  }

  /** The event loop comes to the port. @returns whether there was an event to deliver */
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
