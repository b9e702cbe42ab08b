/**
 * A domain's xenstore ring: a granted page and an event channel. The toolstack creates both before
 * the domain runs. xenstored's end runs as a program in domain 0, on the machine's thread. The
 * domain's end runs in the domain's thread.
 */
import type { GrantMapping } from '@xenkit/hypervisor'
import {
  connectXenstoreRing,
  serveXenstoreRing,
  type XenstoreRingServer,
} from '@xenkit/xenstore-ring'
import { GNTTAB_RESERVED_XENSTORE } from '@xenkit/wire'
import { Attachment } from './attachment.ts'
import { SimEvtchn } from './evtchn-port.ts'
import { SimGrants } from './grant-port.ts'
import type { Hypervisor } from './hypervisor.ts'
import { pagesAt } from './own-pages.ts'
import type { XenstoreConnector } from './xenstore-port.ts'
import { FEATURES } from './xenstored/domain.ts'
import type { Xenstored } from './xenstored/index.ts'

/**
 * Creates the page, the grant and the event channel of a domain's ring.
 * @throws ArenaFullError when the machine has no page left
 */
export function makeXenstoreRing(hypervisor: Hypervisor, domid: number): void {
  const { frames, grants, events, state } = hypervisor
  hypervisor.hypercall(domid, () => {
    const frame = frames.allocate(domid, 1)
    pagesAt(state, frame, 1).fill(0)
    grants.grantBy(GNTTAB_RESERVED_XENSTORE, { domid, to: 0, frame, writable: true })
    events.openXenstorePort(domid)
  })
}

/**
 * Returns a function that connects to xenstored through the domain's ring. It may be called in any
 * thread of the domain; a new connection takes the ring from an earlier one.
 */
export function connectThroughRing(attachment: Attachment, evtchn: SimEvtchn): XenstoreConnector {
  const { domid, hypervisor } = attachment
  return (receiver) => {
    const frame = attachment.hypercall(() =>
      hypervisor.grants.frame(domid, GNTTAB_RESERVED_XENSTORE),
    )
    return connectXenstoreRing(
      {
        page: pagesAt(hypervisor.state, frame, 1),
        bind: (onEvent) => evtchn.bindXenstore(onEvent),
      },
      receiver,
    )
  }
}

/** xenstored's ends of the rings of all domains. */
export class RingXenstored {
  readonly #xenstored: Xenstored
  readonly #hypervisor: Hypervisor
  readonly #grants: SimGrants
  readonly #evtchn: SimEvtchn
  readonly #served = new Map<
    number,
    { readonly server: XenstoreRingServer; readonly mapping: GrantMapping }
  >()

  /** @throws NotAvailableError if there is no domain 0 */
  constructor(hypervisor: Hypervisor, xenstored: Xenstored) {
    // Served rings don't keep the process running; the domains that use them do.
    const attachment = new Attachment(hypervisor, 0)
    this.#xenstored = xenstored
    this.#hypervisor = hypervisor
    this.#grants = new SimGrants(attachment)
    this.#evtchn = new SimEvtchn(attachment, { keepsRunning: false })
  }

  /**
   * Serves a domain's ring.
   * @throws EvtchnError when domain 0 has no port left
   */
  serve(domid: number): void {
    const mapping = this.#grants.map([{ domid, gref: GNTTAB_RESERVED_XENSTORE }], {
      writable: true,
    })
    const port = this.#hypervisor.locked(0, () => this.#hypervisor.events.xenstorePort(domid))
    try {
      const server = serveXenstoreRing({
        page: mapping.bytes,
        bind: (onEvent) => this.#evtchn.bindInterdomain({ domid, port }, onEvent),
        features: FEATURES,
        connect: (receiver) => this.#xenstored.connect(domid, receiver),
      })
      this.#served.set(domid, { server, mapping })
    } catch (error) {
      mapping.close()
      throw error
    }
  }

  /**
   * Resets the ring of a domain that was introduced to xenstored with the feature bits `features`.
   */
  introduced(domid: number, features: number): void {
    this.#served.get(domid)?.server.reset(features)
  }

  /** Checks all rings now, for requests whose events haven't been delivered yet. */
  look(): void {
    for (const { server } of this.#served.values()) server.look()
  }

  /** Stops serving a destroyed domain's ring, or all rings if it was domain 0. */
  leave(domid: number): void {
    for (const [served, { server, mapping }] of this.#served) {
      if (domid !== served && domid !== 0) continue
      this.#served.delete(served)
      server.close()
      mapping.close()
    }
  }
}
