/** The event-channel port of a domain. */
import { DOMID_MAX, EvtchnError, type EvtchnBinding, type EvtchnPort, expectInteger, UINT32_MAX } from '@xenkit/hypervisor'
import type { Attachment, Opened } from './attachment.ts'
import { Upcall } from './upcall.ts'

export class SimEvtchn implements EvtchnPort {
  readonly #attachment: Attachment
  readonly #upcall: Upcall

  constructor(attachment: Attachment) {
    this.#attachment = attachment
    this.#upcall = new Upcall(attachment)
  }

  bindInterdomain(o: { readonly domid: number; readonly port: number }, onEvent: () => void): EvtchnBinding {
    expectInteger('domid', o.domid, 0, DOMID_MAX)
    expectInteger('port', o.port, 0, UINT32_MAX)
    const { hypervisor, domid, row } = this.#attachment
    return this.#open(
      this.#attachment.hypercall(() => hypervisor.events.bindInterdomain({ domid, remote: o, attachment: row })),
      onEvent,
    )
  }

  bindUnbound(o: { readonly domid: number }, onEvent: () => void): EvtchnBinding {
    expectInteger('domid', o.domid, 0, DOMID_MAX)
    const { hypervisor, domid, row } = this.#attachment
    return this.#open(
      this.#attachment.hypercall(() => hypervisor.events.bindUnbound({ domid, remote: o.domid, attachment: row })),
      onEvent,
    )
  }

  #open(port: number, onEvent: () => void): EvtchnBinding {
    const binding = new Binding(this.#attachment, this.#upcall, port)
    this.#upcall.add(port, onEvent)
    this.#attachment.opened(binding)
    return binding
  }
}

class Binding implements EvtchnBinding, Opened {
  readonly port: number
  readonly #attachment: Attachment
  readonly #upcall: Upcall
  #closed = false

  constructor(attachment: Attachment, upcall: Upcall, port: number) {
    this.#attachment = attachment
    this.#upcall = upcall
    this.port = port
  }

  /** @throws EvtchnError if the binding is closed */
  notify(): void {
    if (this.#closed) throw new EvtchnError(`cannot notify port ${this.port}: ENOTCONN, it is closed`, { errno: 'ENOTCONN', port: this.port })
    const { hypervisor, domid } = this.#attachment
    this.#attachment.hypercall(() => hypervisor.events.send(domid, this.port))
  }

  unmask(): void {
    // /dev/xen/evtchn ignores a port that isn't bound: work that ends with an unmask may have closed it.
    if (this.#closed) return
    const { hypervisor, domid } = this.#attachment
    this.#attachment.hypercall(() => hypervisor.events.unmask(domid, this.port))
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#upcall.remove(this.port)
    this.#attachment.forget(this)
    const { hypervisor, domid } = this.#attachment
    this.#attachment.release(() => hypervisor.events.close(domid, this.port))
  }

  abandon(): void {
    this.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
