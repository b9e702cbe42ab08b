/** Event channels over /dev/xen/evtchn. */
import { getSystemErrorName } from 'node:util'
import {
  DOMID_MAX,
  type ErrorDetails,
  EvtchnError,
  type EvtchnBinding,
  type EvtchnPort,
  expectInteger,
  UINT32_MAX,
} from '@xenkit/hypervisor'
import type { Native, Evtchn as NativeEvtchn } from '@xenkit/native'
import type { XenArena } from './arena.ts'
import { DEVICES, openDevice } from './devices.ts'
import { EventDispatch } from './event-dispatch.ts'
import { asNativeError, type NativeError, translated } from './native-error.ts'

/** Returns a function that converts an addon error into an EvtchnError. */
const failing =
  (what: string, details: ErrorDetails = {}) =>
  ({ message, errno }: NativeError): EvtchnError =>
    new EvtchnError(`cannot ${what}: ${message}`, { ...details, errno })

/** The hypervisor port's `EvtchnPort`, made of /dev/xen/evtchn. */
export class XenEvtchn implements EvtchnPort {
  readonly #native: NativeEvtchn
  readonly #notify: (port: number) => void
  readonly #dispatch: EventDispatch
  #overflows = 0

  /** @throws NotAvailableError if /dev/xen/evtchn can't be opened */
  constructor(native: Native, arena: XenArena) {
    const table = arena.allocate(2)
    const words = new Uint32Array(arena.buffer, table.byteOffset, table.bytes.length / 4)
    this.#native = openDevice(
      DEVICES.evtchn,
      (path) =>
        new native.Evtchn(arena.native, path, table.byteOffset, (count) => this.#receive(count)),
    )
    this.#notify = this.#native.createNotify()
    const unmask = this.#native.createUnmask()
    this.#dispatch = new EventDispatch(words, (count) => {
      try {
        unmask(count)
      } catch (error) {
        throw failing('unmask ports')(asNativeError(error))
      }
    })
  }

  #receive(count: number): void {
    if (count > 0) return this.#dispatch.deliver(count)
    if (count === 0) return this.#recover()
    const errno = getSystemErrorName(count)
    throw new EvtchnError(
      `event channels failed, all ${this.#dispatch.size} bindings are closed: read of "${DEVICES.evtchn.path}": ${errno}`,
      { errno },
    )
  }

  /**
   * Handles an overflow of the device's queue by treating every port as pending. Warns about the
   * 1st, 2nd, 4th, 8th ... overflow only, because a guest may cause them.
   */
  #recover(): void {
    const overflows = ++this.#overflows
    if ((overflows & (overflows - 1)) === 0) {
      process.emitWarning(
        `the queue of "${DEVICES.evtchn.path}" overflowed (${overflows} so far): ` +
          `all ${this.#dispatch.size} ports are treated as pending, no event is lost`,
        { code: 'XENKIT_EVTCHN_OVERFLOW' },
      )
    }
    this.#dispatch.deliverAll()
  }

  bindInterdomain(
    { domid, port }: { readonly domid: number; readonly port: number },
    onEvent: () => void,
  ): EvtchnBinding {
    expectInteger('domid', domid, 0, DOMID_MAX)
    expectInteger('port', port, 0, UINT32_MAX)
    return this.#bind(() => this.#native.bindInterdomain(domid, port), onEvent, {
      text: `bind to port ${port} of domain ${domid}`,
      domid,
      port,
    })
  }

  bindUnbound({ domid }: { readonly domid: number }, onEvent: () => void): EvtchnBinding {
    expectInteger('domid', domid, 0, DOMID_MAX)
    return this.#bind(() => this.#native.bindUnbound(domid), onEvent, {
      text: `open a port for domain ${domid}`,
      domid,
    })
  }

  bindVirq({ virq }: { readonly virq: number }, onEvent: () => void): EvtchnBinding {
    expectInteger('virq', virq, 0, UINT32_MAX)
    return this.#bind(() => this.#native.bindVirq(virq), onEvent, {
      text: `bind to virtual interrupt ${virq}`,
      virq,
    })
  }

  #bind(
    bind: () => number,
    onEvent: () => void,
    { text, ...details }: ErrorDetails & { readonly text: string },
  ): EvtchnBinding {
    const port = translated(bind, failing(text, details))
    this.#dispatch.add(port, onEvent)
    return new Binding(port, {
      native: this.#native,
      notify: this.#notify,
      dispatch: this.#dispatch,
    })
  }

  /** Unbinds every event-channel port. */
  close(): void {
    this.#dispatch.clear()
    this.#native.close()
  }
}

class Binding implements EvtchnBinding {
  readonly port: number
  readonly #native: NativeEvtchn
  readonly #notify: (port: number) => void
  readonly #dispatch: EventDispatch
  #closed = false

  constructor(
    port: number,
    o: {
      readonly native: NativeEvtchn
      readonly notify: (port: number) => void
      readonly dispatch: EventDispatch
    },
  ) {
    this.port = port
    this.#native = o.native
    this.#notify = o.notify
    this.#dispatch = o.dispatch
  }

  /** @throws EvtchnError if the binding is closed */
  notify(): void {
    if (this.#closed) {
      throw new EvtchnError(`cannot notify port ${this.port}: ENOTCONN, it is closed`, {
        errno: 'ENOTCONN',
        port: this.port,
      })
    }
    try {
      this.#notify(this.port)
    } catch (error) {
      throw failing(`notify port ${this.port}`, { port: this.port })(asNativeError(error))
    }
  }

  unmask(): void {
    // Ignored after `close`, as the device does: a handler that ends with an unmask may have closed
    // its own port.
    if (!this.#closed) this.#dispatch.unmask(this.port)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#dispatch.remove(this.port)
    const { port } = this
    translated(() => this.#native.unbind(port), failing(`unbind port ${port}`, { port }))
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
