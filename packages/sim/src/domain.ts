/** A domain of a machine, as one thread sees it. */
import {
  type Arena,
  EventLoop,
  type EvtchnPort,
  type GrantPort,
  type Hypervisor as HypervisorPort,
  type XenstorePort,
} from '@xenkit/hypervisor'
import type { ArenaLimits } from './arena-room.ts'
import { Attachment } from './attachment.ts'
import { SimEvtchn } from './evtchn-port.ts'
import { SimGrants } from './grant-port.ts'
import { Hypervisor } from './hypervisor.ts'
import { MachineState, type SharedMachine } from './machine-state.ts'
import { OwnPages } from './own-pages.ts'
import { connectThrough, type Link, serveLink } from './xenstore-link.ts'
import { SimXenstore, type XenstoreConnector, type XenstoreStream } from './xenstore-port.ts'
import { connectThroughRing } from './xenstore-ring.ts'

/**
 * Carries a domain to another thread: `new Worker(url, { workerData: handle, transferList:
 * handle.transferList })`.
 */
export interface DomainHandle {
  readonly domid: number
  readonly machine: SharedMachine
  /** Size of the arena that the other thread gets: the same as this thread's. */
  readonly arena: ArenaLimits
  /** Empty if the domain has a xenstore ring. */
  readonly transferList: [xenstore: Link] | []
}

/** A simulated domain as a hypervisor: the counterpart of `openXen`. */
export class SimDomain implements HypervisorPort {
  readonly name = 'sim'
  readonly domid: number
  readonly arena: Arena
  readonly loop = new EventLoop()
  readonly grants: GrantPort
  readonly evtchn: EvtchnPort
  readonly xenstore: XenstorePort
  readonly #attachment: Attachment
  readonly #connect: XenstoreConnector<XenstoreStream> | undefined

  /**
   * Created by `SimMachine.createDomain` and `attachDomain` only.
   * @param o.connect connects to xenstored; undefined if the domain uses its ring
   */
  constructor(
    hypervisor: Hypervisor,
    domid: number,
    {
      connect,
      arena = {},
    }: {
      readonly connect: XenstoreConnector<XenstoreStream> | undefined
      readonly arena?: ArenaLimits
    },
  ) {
    const attachment = new Attachment(hypervisor, domid, arena)
    const evtchn = new SimEvtchn(attachment)
    this.domid = domid
    const { pages, mappings } = attachment.room
    this.arena = {
      buffer: hypervisor.state.shared.memory,
      pages,
      mappings,
      tenants: new Set(),
      waiting: new Set(),
      allocate: (count) => new OwnPages(attachment, count),
      hold: () => attachment.holds.take(),
    }
    this.grants = new SimGrants(attachment)
    this.evtchn = evtchn
    this.xenstore = new SimXenstore(attachment, connect ?? connectThroughRing(attachment, evtchn))
    this.#attachment = attachment
    this.#connect = connect
  }

  /**
   * Returns a handle for one call of `attachDomain` in another thread. Resources opened there count
   * as this domain's.
   */
  forThread(): DomainHandle {
    const {
      hypervisor,
      room: { pages, mappings },
    } = this.#attachment
    const arena = { pages, mappings }
    const handle = { domid: this.domid, machine: hypervisor.state.shared, arena }
    if (!this.#connect) return { ...handle, transferList: [] }
    const { port1, port2 } = new MessageChannel()
    serveLink(port1, this.#connect)
    return { ...handle, transferList: [port2] }
  }

  /**
   * Closes everything that was opened through this object. The domain continues to exist;
   * `SimMachine.destroyDomain` ends it.
   */
  async close(): Promise<void> {
    this.#attachment.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/**
 * Attaches this thread to the domain of a handle that came from another thread.
 * @throws HypervisorClosedError if the domain was destroyed
 */
export function attachDomain(handle: DomainHandle): SimDomain {
  const {
    domid,
    machine,
    arena,
    transferList: [link],
  } = handle
  const hypervisor = new Hypervisor(new MachineState(machine))
  return new SimDomain(hypervisor, domid, { connect: link && connectThrough(link), arena })
}
