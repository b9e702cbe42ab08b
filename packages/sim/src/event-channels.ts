/**
 * The event channels of every domain. Callers hold the machine lock. Follows
 * xen/common/event_channel.c: the states of a port, which events are lost, and the errno of each
 * error.
 */
import { EvtchnError } from '@xenkit/hypervisor'
import { EVTCHN_PORT_INVALID, NR_VIRQS, VIRQ } from '@xenkit/wire'
import { type MachineState, ownersOf } from './machine-state.ts'

const FREE = 0
const UNBOUND = 1
const INTERDOMAIN = 2
/** State of a port that is bound to a virtual interrupt; `remotePort` is the interrupt's number. */
const BOUND_TO_VIRQ = 3

/**
 * Virtual interrupts that every domain or VCPU has. The others are global, and only domain 0 can
 * bind them.
 */
const PRIVATE_VIRQS: ReadonlySet<number> = new Set([
  VIRQ.TIMER,
  VIRQ.DEBUG,
  VIRQ.XENOPROF,
  VIRQ.ARGO,
  VIRQ.XENPMU,
])

/** Values of an attachment's `upcall` word. */
export const UPCALL_IDLE = 0
const UPCALL_RAISED = 1

/**
 * Spurious events: one per this many checks of a port without an event. A correct driver ignores
 * them.
 */
const SPURIOUS_ONE_IN = 64

type PortField =
  | 'state'
  | 'pending'
  | 'masked'
  | 'remoteDomid'
  | 'remotePort'
  | 'attachment'
  | 'references'

/** An open port, as the list of open resources shows it. */
export interface PortStatus {
  readonly domid: number
  readonly port: number
  readonly text: string
}

/** Operations on ports. */
export class EventChannels {
  readonly #state: MachineState

  constructor(state: MachineState) {
    this.#state = state
  }

  bindUnbound(o: {
    readonly domid: number
    readonly remote: number
    readonly attachment: number
  }): number {
    const port = this.#allocate(o.domid, o.attachment)
    this.#bind(o.domid, port, UNBOUND, o.remote, EVTCHN_PORT_INVALID)
    return port
  }

  /**
   * Opens the port of a domain's xenstore ring, to which xenstored in domain 0 binds. It is masked
   * until the domain adopts it.
   */
  openXenstorePort(domid: number): number {
    const port = this.bindUnbound({ domid, remote: 0, attachment: 0 })
    this.#set(domid, port, 'masked', 1)
    this.#state.domains.set(this.#state.slot(domid), 'xenstorePort', port)
    return port
  }

  xenstorePort(domid: number): number {
    return this.#state.domains.get(this.#state.slot(domid), 'xenstorePort')
  }

  /**
   * Assigns an open port to a thread, which then receives the port's events. A later call replaces
   * the thread.
   */
  adopt(domid: number, port: number, attachment: number): void {
    this.#set(domid, port, 'attachment', attachment)
    this.unmask(domid, port)
  }

  /**
   * Ends what `adopt` did, unless another thread has adopted the port since. The port stays open.
   */
  disown(domid: number, port: number, attachment: number): void {
    if (this.#get(domid, port, 'attachment') === attachment) this.#set(domid, port, 'masked', 1)
  }

  bindInterdomain(o: {
    readonly domid: number
    readonly remote: { readonly domid: number; readonly port: number }
    readonly attachment: number
  }): number {
    const { domid, remote } = o
    const refuse = (errno: string, why: string) =>
      new EvtchnError(
        `cannot bind to port ${remote.port} of domain ${remote.domid}: ${errno}, ${why}`,
        { errno, domid: remote.domid, port: remote.port },
      )
    if (!this.#state.isAlive(remote.domid)) throw refuse('ESRCH', 'there is no such domain')
    const known =
      remote.port < this.#state.shared.limits.ports &&
      this.#get(remote.domid, remote.port, 'state') === UNBOUND
    if (!known) throw refuse('EINVAL', 'it is not open for binding')
    const awaited = this.#get(remote.domid, remote.port, 'remoteDomid')
    if (awaited !== domid) throw refuse('EINVAL', `it is open for domain ${awaited}`)
    const port = this.#allocate(domid, o.attachment)
    this.#bind(domid, port, INTERDOMAIN, remote.domid, remote.port)
    this.#bind(remote.domid, remote.port, INTERDOMAIN, domid, port)
    // Notifications before the port was bound were dropped. A pending event makes the new end check
    // once.
    this.#setPending(domid, port)
    return port
  }

  bindVirq(o: {
    readonly domid: number
    readonly virq: number
    readonly attachment: number
  }): number {
    const { domid, virq } = o
    const refuse = (errno: string, why: string) =>
      new EvtchnError(`cannot bind to virtual interrupt ${virq}: ${errno}, ${why}`, {
        errno,
        virq,
      })
    if (virq >= NR_VIRQS) throw refuse('EINVAL', `the last one is ${NR_VIRQS - 1}`)
    // Xen before 4.21 bound the port, which then never received an event.
    if (domid !== 0 && !PRIVATE_VIRQS.has(virq)) throw refuse('EBUSY', 'domain 0 handles it')
    const bound = this.#portOfVirq(domid, virq)
    if (bound !== undefined) throw refuse('EEXIST', `port ${bound} is bound to it`)
    const port = this.#allocate(domid, o.attachment)
    this.#bind(domid, port, BOUND_TO_VIRQ, domid, virq)
    return port
  }

  /** Raises a virtual interrupt. As by Xen, it is lost if no port is bound to it. */
  raiseVirq(domid: number, virq: number): void {
    const port = this.#state.isAlive(domid) ? this.#portOfVirq(domid, virq) : undefined
    if (port !== undefined) this.#setPending(domid, port)
  }

  #portOfVirq(domid: number, virq: number): number | undefined {
    return this.#used(domid).find(
      (port) =>
        this.#get(domid, port, 'state') === BOUND_TO_VIRQ &&
        this.#get(domid, port, 'remotePort') === virq,
    )
  }

  isOpen(domid: number, port: number): boolean {
    return (
      port > 0 && port < this.#state.shared.limits.ports && this.#get(domid, port, 'state') !== FREE
    )
  }

  /**
   * Sends an event to a port's other end. If there is no other end the event is dropped, as by Xen
   * and Linux.
   */
  send(domid: number, port: number): void {
    if (this.#get(domid, port, 'state') !== INTERDOMAIN) return
    this.#setPending(this.#get(domid, port, 'remoteDomid'), this.#get(domid, port, 'remotePort'))
  }

  unmask(domid: number, port: number): void {
    this.#set(domid, port, 'masked', 0)
    if (this.#get(domid, port, 'pending') !== 0) this.raise(this.#get(domid, port, 'attachment'))
  }

  /** Delivers a port's pending event, if any, and masks the port until `unmask`. */
  take(domid: number, port: number): boolean {
    if (this.#get(domid, port, 'masked') !== 0) return false
    if (this.#get(domid, port, 'pending') === 0 && !this.#state.random.oneIn(SPURIOUS_ONE_IN)) {
      return false
    }
    this.#set(domid, port, 'pending', 0)
    this.#set(domid, port, 'masked', 1)
    return true
  }

  /** Keeps a port open until `release` is called, even if its binding is closed before. */
  hold(domid: number, port: number): void {
    this.#state.ports.add(this.#row(domid, port), 'references', 1)
  }

  release(domid: number, port: number): void {
    this.#state.ports.add(this.#row(domid, port), 'references', -1)
    if (this.#get(domid, port, 'references') === 0) this.#free(domid, port)
  }

  /** Ends a port's binding: its events are dropped. Frees the port, unless `hold` keeps it. */
  close(domid: number, port: number): void {
    this.#set(domid, port, 'masked', 1)
    this.release(domid, port)
  }

  /**
   * Frees a port. A port bound to it becomes unbound, and this domain may bind to that one again.
   */
  #free(domid: number, port: number): void {
    if (this.#get(domid, port, 'state') === INTERDOMAIN) {
      const remote = this.#row(
        this.#get(domid, port, 'remoteDomid'),
        this.#get(domid, port, 'remotePort'),
      )
      this.#state.ports.set(remote, 'state', UNBOUND)
      this.#state.ports.set(remote, 'remotePort', EVTCHN_PORT_INVALID)
    }
    this.#state.ports.clear(this.#row(domid, port))
    this.#state.domains.add(this.#state.slot(domid), 'ports', -1)
  }

  closeAllOf(domid: number): void {
    for (const port of this.#used(domid)) this.#free(domid, port)
  }

  /** Wakes a thread, which then checks its ports and whether its domain still exists. */
  raise(attachment: number): void {
    const index = this.#state.attachments.index(attachment, 'upcall')
    if (Atomics.exchange(this.#state.words, index, UPCALL_RAISED) === UPCALL_IDLE) {
      Atomics.notify(this.#state.words, index)
    }
  }

  /**
   * Lists open ports. Leaves out the two ports of a xenstore ring, which exist as long as its
   * domain.
   */
  list(): PortStatus[] {
    return ownersOf(this.#state.domains).flatMap(([, domid]) =>
      this.#used(domid).flatMap((port) => {
        const [remoteDomid, remotePort] = [
          this.#get(domid, port, 'remoteDomid'),
          this.#get(domid, port, 'remotePort'),
        ]
        const bound = this.#get(domid, port, 'state') === INTERDOMAIN
        if (
          port === this.xenstorePort(domid) ||
          (bound && remotePort === this.xenstorePort(remoteDomid))
        ) {
          return []
        }
        return [{ domid, port, text: this.#peerOf(domid, port) }]
      }),
    )
  }

  #peerOf(domid: number, port: number): string {
    const remoteDomid = this.#get(domid, port, 'remoteDomid')
    const remotePort = this.#get(domid, port, 'remotePort')
    switch (this.#get(domid, port, 'state')) {
      case INTERDOMAIN:
        return `bound to port ${remotePort} of domain ${remoteDomid}`
      case BOUND_TO_VIRQ:
        return `bound to virtual interrupt ${remotePort}`
      default:
        return `waits for domain ${remoteDomid}`
    }
  }

  #used(domid: number): number[] {
    const ports = []
    for (let port = 1; port < this.#state.shared.limits.ports; port++) {
      if (this.#get(domid, port, 'state') !== FREE) ports.push(port)
    }
    return ports
  }

  #allocate(domid: number, attachment: number): number {
    const { domains, random, shared } = this.#state
    const usable = shared.limits.ports - 1
    const slot = this.#state.slot(domid)
    if (domains.get(slot, 'ports') === usable) {
      throw new EvtchnError(
        `domain ${domid} has all of its ${usable} event-channel ports in use: ENOSPC`,
        { errno: 'ENOSPC', domid },
      )
    }
    let index = random.below(usable)
    while (this.#get(domid, 1 + index, 'state') !== FREE) index = (index + 1) % usable
    domains.add(slot, 'ports', 1)
    this.#set(domid, 1 + index, 'attachment', attachment)
    this.#set(domid, 1 + index, 'references', 1)
    return 1 + index
  }

  #bind(domid: number, port: number, state: number, remoteDomid: number, remotePort: number): void {
    this.#set(domid, port, 'remoteDomid', remoteDomid)
    this.#set(domid, port, 'remotePort', remotePort)
    this.#set(domid, port, 'state', state)
  }

  #setPending(domid: number, port: number): void {
    this.#set(domid, port, 'pending', 1)
    if (this.#get(domid, port, 'masked') === 0) this.raise(this.#get(domid, port, 'attachment'))
  }

  #row(domid: number, port: number): number {
    return this.#state.slot(domid) * this.#state.shared.limits.ports + port
  }

  #get(domid: number, port: number, field: PortField): number {
    return this.#state.ports.get(this.#row(domid, port), field)
  }

  #set(domid: number, port: number, field: PortField, value: number): void {
    this.#state.ports.set(this.#row(domid, port), field, value)
  }
}
