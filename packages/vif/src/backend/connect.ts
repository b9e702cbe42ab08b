/**
 * Attaches to the queues that a frontend has published: grants mapped, ports bound, rings served.
 */
import { type ExtentSizes, MessageWork, PagePool, ServedRings } from '@xenkit/backend'
import { type Frames, FrameSender, type LinkEnd, NO_OFFLOADS, type Offloads } from '@xenkit/frames'
import type { Hypervisor } from '@xenkit/hypervisor'
import { BackRing } from '@xenkit/ring'
import { netif } from '@xenkit/wire'
import { attachRing, type CloseOptions, type PublishedRing } from '@xenkit/xenbus'
import type { FrontendFeatures, FrontendRings, PublishedQueue } from '../nodes.ts'
import { ControlRing } from './control-ring.ts'
import type { Credit } from './credit.ts'
import { HashConfig } from './hash-config.ts'
import { MulticastFilter } from './multicast-filter.ts'
import { rxOffloads } from './rx-packets.ts'
import { RX_EXTENTS } from './rx-queue.ts'
import { RxServer } from './rx-server.ts'
import { pauseTogether, RxSpread } from './rx-spread.ts'
import { StaticGrefs } from './static-grefs.ts'
import { VifCount, type VifCounters } from './stats.ts'
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
  /** Called when a queue has stopped to post buffers, and when it posts them again. */
  readonly stalled: (stalled: boolean) => void
  /** Called when a ring can't be served any more. */
  readonly failed: (error: unknown) => void
  /** Aborts with a `DeviceAbandonedError` when waiting for the link ends. */
  readonly abandon: AbortSignal
}

/** The queues of a connected card. */
export interface CardQueues extends Pick<ServedRings, 'close'> {
  readonly count: number
  /** What the guest takes. Changes with `reconfigure`. */
  readonly offloads: Offloads
  /** Takes frames for the guest, from the link. */
  receive(frames: Frames): void
  /** Follows what a guest changes by the state Reconfiguring: the headroom. */
  reconfigure(features: FrontendFeatures): void
  /** Turns the guest's multicast filter on or off. */
  filterMulticast(enabled: boolean): void
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
  const { queues, control, features } = o.frontend
  const hash = new HashConfig(queues.length)
  const parts: CardParts = {
    served,
    hash,
    filter: new MulticastFilter(),
    link: countingSender(o.link, o.counters, VifCount.SEND_DROPS),
    pause: pauseTogether(o.link),
    staticGrefs: control ? queues.map(() => openStaticGrefs(o, served)) : [],
  }
  const receivers: RxServer[] = []
  try {
    for (const [i, queue] of queues.entries()) {
      receivers.push(await serveQueue(hv, o, parts, queue, parts.staticGrefs[i]))
    }
    if (control) await serveControl(hv, o, parts, control)
  } catch (error) {
    // Rings opened before this one may already be serving packets: settle those first.
    throw await served.closeAfter(error)
  }
  const connected = new ConnectedQueues(parts, receivers, o.counters)
  connected.reconfigure(features)
  connected.filterMulticast(features.multicastControl)
  served.begin()
  return connected
}

type FramesSink = Pick<LinkEnd, 'send'>

/** A `FrameSender` that counts frames that it drops, since they can't be completed. */
function countingSender(end: LinkEnd, counters: VifCounters, count: VifCount): FramesSink {
  const sender = new FrameSender(end)
  let counted = 0
  return {
    send(frames) {
      sender.send(frames)
      counters.add(count, sender.dropped - counted)
      counted = sender.dropped
    },
  }
}

/** What all rings of a card share. */
interface CardParts {
  readonly served: ServedRings
  readonly hash: HashConfig
  readonly filter: MulticastFilter
  readonly link: FramesSink
  /** Called by each queue. */
  readonly pause: (paused: boolean) => void
  /** One for each queue, if the frontend has a control ring to add grants by. */
  readonly staticGrefs: readonly StaticGrefs[]
}

class ConnectedQueues implements CardQueues {
  offloads: Offloads = NO_OFFLOADS
  readonly #p: CardParts
  readonly #receivers: readonly RxServer[]
  /** Completes what the guest doesn't take, then chooses queues. */
  readonly #toGuest: FramesSink

  constructor(parts: CardParts, receivers: readonly RxServer[], counters: VifCounters) {
    const spread = new RxSpread(parts.hash, parts.filter, receivers)
    const offloads = (): Offloads => this.offloads
    this.#p = parts
    this.#receivers = receivers
    const guest: LinkEnd = {
      get offloads() {
        return offloads()
      },
      send: (frames) => spread.send(frames),
    }
    this.#toGuest = countingSender(guest, counters, VifCount.RECEIVE_DROPS)
  }

  get count(): number {
    return this.#receivers.length
  }

  receive(frames: Frames): void {
    this.#toGuest.send(frames)
  }

  reconfigure(features: FrontendFeatures): void {
    this.offloads = rxOffloads(features)
    for (const receiver of this.#receivers) receiver.headroom = features.xdpHeadroom
  }

  filterMulticast(enabled: boolean): void {
    this.#p.filter.enabled = enabled
  }

  close(how: CloseOptions): Promise<void> {
    return this.#p.served.close(how)
  }
}

async function serveQueue(
  hv: Hypervisor,
  o: ConnectOptions,
  { served, filter, link, pause }: CardParts,
  queue: PublishedQueue,
  staticGrefs: StaticGrefs | undefined,
): Promise<RxServer> {
  const { domid, counters, credit, failed, stalled } = o
  const { rings, grants, guestTurn } = served
  const memory = new Uint8Array(hv.arena.buffer)
  const tx = rings.own(
    await attachRing(hv, { ...queue.tx, domid, grants, attach: attachSlots(netif.tx.slotSize) }),
  )
  const isShared = queue.rx.port === queue.tx.port
  const rx = rings.own(
    await attachRing(hv, {
      ...queue.rx,
      domid,
      grants,
      attach: attachSlots(netif.rx.slotSize),
      ...(isShared ? { channel: tx.channel } : {}),
    }),
  )
  const pool = (extents: ExtentSizes): PagePool =>
    served.memory.own(new PagePool(served.share, extents, failed))
  const sending = new TxWork({
    ring: tx.ring,
    channel: tx.channel,
    guestTurn,
    loop: hv.loop,
    copier: grants.openCopier({ domid, capacity: COPIES }),
    staticGrefs,
    pool: pool(TX_EXTENTS),
    memory,
    offered: OFFERED,
    filter,
    credit,
    link,
    counters,
    failed,
  })
  const receiving = new RxServer({
    ring: rx.ring,
    channel: rx.channel,
    guestTurn,
    copier: grants.openCopier({ domid, capacity: COPIES }),
    staticGrefs,
    pool: pool(RX_EXTENTS),
    memory,
    features: o.frontend.features,
    counters,
    pause,
    stalled,
    failed,
  })
  served.add(sending.server, tx.channel)
  served.add(receiving, rx.channel)
  return receiving
}

async function serveControl(
  hv: Hypervisor,
  { domid, failed }: ConnectOptions,
  { served, hash, staticGrefs }: CardParts,
  published: PublishedRing,
): Promise<void> {
  const { rings, memory, grants, share, guestTurn } = served
  const attach = attachSlots(netif.ctrl.slotSize)
  const { ring, channel } = rings.own(await attachRing(hv, { ...published, domid, grants, attach }))
  const control = memory.own(
    new ControlRing({ domid, grants, share, guestTurn, hash, staticGrefs }),
  )
  const { server } = new MessageWork(
    { ring, channel, guestTurn, loop: hv.loop, failed },
    { messages: netif.ctrl, answer: (request) => control.answer(request) },
  )
  served.add(server, channel)
}

const openStaticGrefs = (
  { domid, failed }: ConnectOptions,
  { memory, grants, share }: ServedRings,
): StaticGrefs => memory.own(new StaticGrefs({ domid, grants, share, failed }))

const attachSlots =
  (slotSize: number) =>
  (bytes: Uint8Array): BackRing =>
    BackRing.attach({ bytes, slotSize })
