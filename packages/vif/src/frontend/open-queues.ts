/** Opens the rings and pages of a network frontend. */
import { type GrantShare, type Hypervisor, type Owner, type Pages } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import { netif } from '@xenkit/wire'
import { type NodeValues, type OpenedRing, openRing, queueDirectories } from '@xenkit/xenbus'
import { CONTROL_NODES, queueNodes } from '../nodes.ts'
import type { OpenedControl } from './control-client.ts'
import { INBOX_PAGES } from './rx-ring.ts'

/** The rings to open. */
export interface OpenQueuesOptions {
  /** The backend's domain. */
  readonly domid: number
  /** Queues, 1..8. */
  readonly queues: number
  /** Whether the two rings of a queue have an event channel each. */
  readonly split: boolean
  /** Whether to open a control ring. */
  readonly control: boolean
}

/** A queue's rings and their pages. */
export interface OpenedQueue {
  readonly tx: OpenedRing<FrontRing>
  readonly rx: OpenedRing<FrontRing>
  readonly txPages: GrantShare
  readonly rxPages: GrantShare
  readonly inbox: Pages
}

/** What `openQueues` opens, and the nodes to publish. */
export interface OpenedQueues {
  readonly queues: readonly OpenedQueue[]
  readonly control: OpenedControl | undefined
  readonly nodes: NodeValues
}

/**
 * Data pages of all queues in each direction. Together with the rings they are less than gntalloc's
 * limit of 1024 pages for the whole system: 2 * 448 + 8 * 2 + 2 = 914.
 */
const PAGES = 448

/** Most data pages of a queue in one direction: its ring has as many slots. */
const MAX_QUEUE_PAGES = 256

/**
 * Opens empty rings.
 * @param owner closes them
 * @throws GrantError, ArenaFullError, EvtchnError when pages, grants or ports are used up
 */
export function openQueues(hv: Hypervisor, owner: Owner, o: OpenQueuesOptions): OpenedQueues {
  const { domid } = o
  const pages = Math.min(MAX_QUEUE_PAGES, Math.floor(PAGES / o.queues))
  // Pages to send from are writable too: the simulated hypervisor shows a read-only page as it was
  // when it was mapped, and static grants stay mapped.
  const share = (count: number): GrantShare =>
    owner.own(hv.grants.share({ domid, pages: count, writable: true }))
  const initOf = (slotSize: number) => (bytes: Uint8Array) => FrontRing.init({ bytes, slotSize })
  const queues = queueDirectories(o.queues).map((directory): OpenedQueue => {
    const [txNodes, rxNodes] = queueNodes(directory, o.split)
    const tx = owner.own(openRing(hv, { ...txNodes, domid, init: initOf(netif.tx.slotSize) }))
    const shared = o.split ? {} : { channel: tx.channel }
    const init = initOf(netif.rx.slotSize)
    const rx = owner.own(openRing(hv, { ...rxNodes, ...shared, domid, init }))
    const inbox = owner.own(hv.arena.allocate(INBOX_PAGES))
    return { tx, rx, txPages: share(pages), rxPages: share(pages), inbox }
  })
  const init = initOf(netif.ctrl.slotSize)
  const ring = o.control ? owner.own(openRing(hv, { ...CONTROL_NODES, domid, init })) : undefined
  const rings = queues.flatMap(({ tx, rx }) => [tx, rx])
  return {
    queues,
    control: ring && { ring, page: share(1) },
    nodes: Object.assign({}, ...[...rings, ...(ring ? [ring] : [])].map(({ nodes }) => nodes)),
  }
}
