/**
 * Both ends of a ring between two domains. A ring's pages and its event channel are opened together
 * and closed together. Linux's functions for the pages are xenbus_setup_ring and
 * xenbus_map_ring_valloc.
 */
import { EventChannel } from '@xenkit/evtchn'
import type { GrantTable } from '@xenkit/grant'
import { type Hypervisor, Owner, firstOf } from '@xenkit/hypervisor'
import type { NodeValues } from './nodes.ts'
import { type PublishedRing, type RingNodes, RingTable } from './ring-nodes.ts'

/** One end of a ring, the frontend's or the backend's. */
export interface ConnectedRing<R> extends Disposable {
  /** Result of `init` or `attach`. */
  readonly ring: R
  /** The ring's pages. */
  readonly bytes: Uint8Array
  readonly channel: EventChannel
  /**
   * Releases the pages, and the event channel unless it belongs to another ring. Idempotent.
   * @throws GrantError, EvtchnError if pages or channel can't be closed; the rest is closed first
   */
  close(): void
}

/** A frontend's end of a ring. */
export interface OpenedRing<R> extends ConnectedRing<R> {
  /** Nodes to publish, by name relative to the frontend's directory. */
  readonly nodes: NodeValues
}

/** Options of `openRing`. */
export interface OpenRingOptions<R> extends RingNodes {
  /** The backend's domain. */
  readonly domid: number
  /** Formats the zeroed pages: `FrontRing.init` for a ring of requests. */
  readonly init: (bytes: Uint8Array) => R
  /** Event channel of another ring, to be shared. Default: a new one. */
  readonly channel?: EventChannel
}

/**
 * Opens a frontend's ring: grants its pages and opens a port for the backend to bind to. If a part
 * fails, nothing stays open.
 *
 * @example
 * const ring = openRing(hv, {
 *   domid: device.backendDomid,
 *   init: (bytes) => FrontRing.init({ bytes, slotSize: 64 }),
 * })
 * await device.publish(ring.nodes)
 *
 * @throws GrantError, ArenaFullError, EvtchnError when pages, grants or ports are used up
 * @throws RangeError for an order out of range
 */
export function openRing<R>(hv: Hypervisor, o: OpenRingOptions<R>): OpenedRing<R> {
  const { domid, order = 0 } = o
  const table = new RingTable(o)
  const owner = new Owner()
  try {
    const { bytes, grefs } = owner.own(
      hv.grants.share({ domid, pages: 1 << order, writable: true }),
    )
    const ring = o.init(bytes)
    const channel = o.channel ?? owner.own(EventChannel.bindUnbound(hv.evtchn, { domid }))
    const nodes = table.format({ grefs: [...grefs], port: channel.port })
    return { ...connected(owner, { ring, bytes, channel }), nodes }
  } catch (error) {
    throw firstOf([error, ...owner.closeEach()])
  }
}

/** Options of `attachRing`: what a frontend published of one ring, and how to attach to it. */
export interface AttachRingOptions<R> extends PublishedRing {
  /** The frontend's domain. */
  readonly domid: number
  /** Grant table that maps the pages. */
  readonly grants: GrantTable
  /**
   * Binds to the ring in the pages, which the other domain may change at any time:
   * `BackRing.attach`.
   */
  readonly attach: (bytes: Uint8Array) => R
  /** Event channel of another ring for which the frontend publishes the same port. */
  readonly channel?: EventChannel
}

/**
 * Attaches a backend to a ring that `readRings` found: maps the ring's pages writable and binds its
 * port. The frontend may have notified before, so check the ring once before waiting for an event.
 * After an error nothing stays open.
 * @throws GrantError, EvtchnError if a published reference can't be mapped or a port can't be
 *   bound: the frontend's fault, which closes its device
 * @throws any error of `attach`, likewise the frontend's fault
 * @throws ArenaFullError if the arena has no room for the pages
 */
export async function attachRing<R>(
  hv: Hypervisor,
  o: AttachRingOptions<R>,
): Promise<ConnectedRing<R>> {
  const { domid, grefs, port } = o
  const owner = new Owner()
  try {
    const refs = grefs.map((gref) => ({ domid, gref }))
    const { bytes } = owner.own(await o.grants.map(refs, { writable: true }))
    const ring = o.attach(bytes)
    const channel = o.channel ?? owner.own(EventChannel.bindInterdomain(hv.evtchn, { domid, port }))
    return connected(owner, { ring, bytes, channel })
  } catch (error) {
    throw firstOf([error, ...owner.closeEach()])
  }
}

const connected = <R>(
  owner: Owner,
  parts: Pick<ConnectedRing<R>, 'ring' | 'bytes' | 'channel'>,
): ConnectedRing<R> => ({
  ...parts,
  close: () => owner.close(),
  [Symbol.dispose]: () => owner.close(),
})
