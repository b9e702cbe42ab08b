/**
 * Attaches to the queues that a frontend has published: grants mapped, ports bound, rings served.
 */
import { MessageWork, PagePool, ServedRings } from '@xenkit/backend'
import { type Frames, FrameSender, type LinkEnd, type Offloads } from '@xenkit/frames'
import type { Hypervisor } from '@xenkit/hypervisor'
import { BackRing } from '@xenkit/ring'
import { netif } from '@xenkit/wire'
import { attachRing } from '@xenkit/xenbus'
import type { FrontendRings, PublishedQueue, PublishedRing } from '../nodes.ts'
import { ControlRing } from './control-ring.ts'
import type { Credit } from './credit.ts'
import { HashConfig } from './hash-config.ts'
import { MulticastFilter } from './multicast-filter.ts'
import { rxOffloads } from './rx-packets.ts'
import { RX_EXTENTS } from './rx-queue.ts'
import { RxServer } from './rx-server.ts'
import { RxSpread } from './rx-spread.ts'
import { StaticGrefs } from './static-grefs.ts'
import type { VifCounters } from './stats.ts'
import { BATCH_BYTES } from './tx-batch.ts'
import { TxWork } from './tx-work.ts'

/** Operations of one grant-copy call: one for each slot of a ring. */
const COPIES = 256

/** Buffers for packets that are being sent, in pages: one batch at a time for each queue. */
const TX_EXTENTS = { small: BATCH_BYTES / 4096, large: BATCH_BYTES / 4096, maxLarge: 4 }

/** GSO that every guest is offered. */
const OFFERED = { gso4: true, gso6: true }

/** Options of `connectQueues`. */
export interface ConnectOptions {
  readonly domid: number
  readonly frontend: FrontendRings
  /** The link's end of the cable. */
  readonly link: LinkEnd
  /** The guest's rate limit, shared by its queues. */
  readonly credit: Credit
  readonly counters: VifCounters
  /** Called when the guest has stopped to post buffers, and when it posts them again. */
  readonly stalled: (stalled: boolean) => void
  /** Called when a ring can't be served any more. */
  readonly failed: (error: unknown) => void
  /** Aborts with a `DeviceAbandonedError` when waiting for the link ends. */
  readonly abandon: AbortSignal
}

/** The queues of a connected card. */
export interface CardQueues extends Pick<ServedRings, 'close'> {
  readonly count: number
  /** What the guest takes. */
  readonly offloads: Offloads
  /** Takes frames for the guest, from the link. */
  receive(frames: Frames): void
}

/**
 * Maps the frontend's rings, binds their ports and starts to serve them.
 *
 * @throws GrantError for a published reference that can't be mapped. The frontend is to blame: its
 *   device is closed.
 * @throws EvtchnError for a published port that can't be bound, likewise
 */
export async function connectQueues(hv: Hypervisor, o: ConnectOptions): Promise<CardQueues> {
  const served = new ServedRings(hv, o)
  const { features } = o.frontend
  const filter = new MulticastFilter()
  filter.enabled = features.multicastControl
  const memory = new Uint8Array(hv.arena.buffer)
  const parts = { served, filter, memory, link: new FrameSender(o.link) }
  const receivers: RxServer[] = []
  try {
    for (const queue of o.frontend.queues) {
      receivers.push(await serveQueue(hv, o, { ...parts, queue }))
    }
  } catch (error) {
    // Rings opened before this one may already be serving packets: settle those first.
    throw await served.closeAfter(error)
  }
  served.begin()
  const offloads = rxOffloads(features)
  const [first] = receivers
  const toGuest = new FrameSender({ offloads, send: (frames) => first?.send(frames) })
  return {
    count: receivers.length,
    offloads,
    receive: (frames) => toGuest.send(frames),
    close: (how) => served.close(how),
  }
}

interface QueueParts {
  readonly served: ServedRings
  readonly filter: MulticastFilter
  readonly memory: Uint8Array
  readonly link: FrameSender
  readonly queue: PublishedQueue
}

async function serveQueue(
  hv: Hypervisor,
  o: ConnectOptions,
  { served, filter, memory, link, queue }: QueueParts,
): Promise<RxServer> {
  const { domid, counters, credit, failed, stalled } = o
  const { rings, grants, guestTurn } = served
  const attach =
    (slotSize: number) =>
    (bytes: Uint8Array): BackRing =>
      BackRing.attach({ bytes, slotSize })
  const tx = rings.own(
    await attachRing(hv, { ...queue.tx, domid, grants, attach: attach(netif.tx.slotSize) }),
  )
  const isShared = queue.rx.port === queue.tx.port
  const rx = rings.own(
    await attachRing(hv, {
      ...queue.rx,
      domid,
      grants,
      attach: attach(netif.rx.slotSize),
      ...(isShared ? { channel: tx.channel } : {}),
    }),
  )
  const pool = (extents: typeof TX_EXTENTS): PagePool =>
    served.memory.own(new PagePool(served.share, extents, failed))
  const sending = new TxWork({
    ring: tx.ring,
    channel: tx.channel,
    guestTurn,
    loop: hv.loop,
    copier: grants.openCopier({ domid, capacity: COPIES }),
    pool: pool(TX_EXTENTS),
    memory,
    offered: OFFERED,
    filter,
    credit,
    link,
    counters,
    failed,
  })
  served.add(sending.server, tx.channel)
  const receiving = new RxServer({
    ring: rx.ring,
    channel: rx.channel,
    guestTurn,
    copier: grants.openCopier({ domid, capacity: COPIES }),
    pool: pool(RX_EXTENTS),
    memory,
    features: o.frontend.features,
    counters,
    pause: (paused) => o.link.pause?.(paused),
    stalled,
    failed,
  })
  served.add(receiving, rx.channel)
  return receiving
}
