/** Event channels of one domain and thread. */
import {
  DOMID_MAX,
  EvtchnError,
  type EvtchnBinding,
  type EvtchnPort,
  expectInteger,
  NotAvailableError,
  UINT32_MAX,
} from '@xenkit/hypervisor'
import type { Attachment, Opened } from './attachment.ts'
import { Upcall } from './upcall.ts'

/** Implements `EvtchnPort` for one domain and thread. */
export class SimEvtchn implements EvtchnPort {
  readonly #attachment: Attachment
  readonly #upcall: Upcall

  /** @param o.keepsRunning whether open ports keep the process running */
  constructor(attachment: Attachment, o = { keepsRunning: true }) {
    this.#attachment = attachment
    this.#upcall = new Upcall(attachment, o)
  }

  bindInterdomain(
    o: { readonly domid: number; readonly port: number },
    onEvent: () => void,
  ): EvtchnBinding {
    expectInteger('domid', o.domid, 0, DOMID_MAX)
    expectInteger('port', o.port, 0, UINT32_MAX)
    const { hypervisor, domid, row } = this.#attachment
    return this.#open(
      this.#attachment.hypercall(() =>
        hypervisor.events.bindInterdomain({ domid, remote: o, attachment: row }),
      ),
      onEvent,
    )
  }

  bindUnbound(o: { readonly domid: number }, onEvent: () => void): EvtchnBinding {
    expectInteger('domid', o.domid, 0, DOMID_MAX)
    const { hypervisor, domid, row } = this.#attachment
    return this.#open(
      this.#attachment.hypercall(() =>
        hypervisor.events.bindUnbound({ domid, remote: o.domid, attachment: row }),
      ),
      onEvent,
    )
  }

  bindVirq({ virq }: { readonly virq: number }, onEvent: () => void): EvtchnBinding {
    expectInteger('virq', virq, 0, UINT32_MAX)
    const { hypervisor, domid, row } = this.#attachment
    return this.#open(
      this.#attachment.hypercall(() =>
        hypervisor.events.bindVirq({ domid, virq, attachment: row }),
      ),
      onEvent,
    )
  }

  /**
   * Binds to the port of the domain's xenstore ring, which stays open when the binding is closed.
   * @throws NotAvailableError if this thread is bound to it already
   */
  bindXenstore(onEvent: () => void): EvtchnBinding {
    const { hypervisor, domid, row } = this.#attachment
    const port = this.#attachment.hypercall(() => hypervisor.events.xenstorePort(domid))
    if (this.#upcall.has(port)) {
      throw new NotAvailableError(
        `the xenstore ring of domain ${domid} carries one connection at a time: share the client that is open`,
        { domid },
      )
    }
    const binding = this.#add(port, onEvent, () => hypervisor.events.disown(domid, port, row))
    this.#attachment.hypercall(() => hypervisor.events.adopt(domid, port, row))
    return binding
  }

  #open(port: number, onEvent: () => void): EvtchnBinding {
    const { hypervisor, domid } = this.#attachment
    return this.#add(port, onEvent, () => hypervisor.events.close(domid, port))
  }

  /** @param release releases the port; called in a hypercall */
  #add(port: number, onEvent: () => void, release: () => void): EvtchnBinding {
    const binding = new Binding(this.#attachment, this.#upcall, port, release)
    this.#upcall.add(port, onEvent)
    this.#attachment.opened(binding)
    return binding
  }
}

class Binding implements EvtchnBinding, Opened {
  readonly port: number
  readonly #attachment: Attachment
  readonly #upcall: Upcall
  readonly #release: () => void
  #closed = false

  constructor(attachment: Attachment, upcall: Upcall, port: number, release: () => void) {
    this.#attachment = attachment
    this.#upcall = upcall
    this.port = port
    this.#release = release
  }

  /** @throws EvtchnError if the binding is closed */
  notify(): void {
    if (this.#closed) {
      throw new EvtchnError(`cannot notify port ${this.port}: ENOTCONN, it is closed`, {
        errno: 'ENOTCONN',
        port: this.port,
      })
    }
    const { hypervisor, domid } = this.#attachment
    // Don't use `attachment.hypercall`: while the attachment closes, a resource may still notify
    // the other side.
    hypervisor.hypercall(domid, () => hypervisor.events.send(domid, this.port))
  }

  unmask(): void {
    // An unmask after `close` is ignored, as by /dev/xen/evtchn: the work before it may have closed
    // the port.
    if (this.#closed) return
    const { hypervisor, domid } = this.#attachment
    this.#attachment.hypercall(() => hypervisor.events.unmask(domid, this.port))
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#upcall.remove(this.port)
    this.#attachment.forget(this)
    this.#attachment.release(this.#release)
  }

  abandon(): void {
    this.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
