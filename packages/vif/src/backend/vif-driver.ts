/** The driver behind `serveVif`: each card's link, from the offer to its removal. */
import { type DriverContext, tellListener, unlessAborted } from '@xenkit/backend'
import type { Link } from '@xenkit/frames'
import { type Hypervisor, NotAvailableError } from '@xenkit/hypervisor'
import {
  type BackendConnection,
  type BackendDevice,
  type BackendDriver,
  type CloseOptions,
  type NodeValues,
  isStillPublished,
} from '@xenkit/xenbus'
import type { XenstoreClient } from '@xenkit/xenstore-client'
import {
  type FrontendRings,
  offerNodes,
  publishedRings,
  readFeatures,
  readFrontendRings,
  linkNodes,
} from '../nodes.ts'
import {
  type RequestedCard,
  type WatchRequest,
  readRequestedCard,
  readWatchRequest,
} from '../requested-card.ts'
import { type CardQueues, connectQueues } from './connect.ts'
import { PluggedCard } from './plugged-card.ts'
import type { LinkAnswer, LinkFunction, ServeVifOptions } from './serve-vif-options.ts'
import { CardCounters } from './stats.ts'
import { cardLog, type ServedCard, type VifEvent } from './vif-event.ts'

/** Queues of a card that are offered by default: as many as Linux's netfront usually asks for. */
const DEFAULT_QUEUES = 4

/** Driver of the cards of one `serveVif`: chooses their links and connects their queues. */
export class VifDriver implements BackendDriver {
  readonly changeable = ['rate', 'xenkit-capture', 'xenkit-mirror']
  readonly #hv: Hypervisor
  readonly #xs: XenstoreClient
  readonly #o: ServeVifOptions
  /** Most queues of a card. */
  readonly #queues: number
  readonly #onEvent: (event: VifEvent) => void
  /** Aborts when waiting for links ends. */
  readonly #abandon: AbortSignal
  readonly #cards = new Map<BackendDevice, PluggedCard>()

  constructor(hv: Hypervisor, o: ServeVifOptions, { xs, abandon }: DriverContext) {
    this.#hv = hv
    this.#xs = xs
    this.#o = o
    this.#queues = o.queues ?? DEFAULT_QUEUES
    this.#abandon = abandon
    this.#onEvent = o.onEvent ?? cardLog()
  }

  cardOf(device: BackendDevice): ServedCard {
    const { frontendDomid, devid } = device
    // A device can fail before its own nodes were read: report it with defaults.
    return (
      this.#cards.get(device)?.served ?? {
        frontendDomid,
        devid,
        name: `vif${frontendDomid}.${devid}`,
        mac: undefined,
        bridge: undefined,
        script: 'none',
        ips: [],
        rate: undefined,
        mtu: 1500,
        stats: new CardCounters().stats,
      }
    )
  }

  tell(event: VifEvent): void {
    tellListener(this.#onEvent, event)
  }

  async offer(device: BackendDevice): Promise<NodeValues | undefined> {
    const requested = await readRequestedCard(this.#xs, device)
    const failed = (error: unknown): void => device.fail(error)
    const nodes = (): NodeValues => statusOf(card)
    const card = new PluggedCard(requested, this.#hv.arena, {
      failed,
      stalled: (stalled) =>
        this.tell({ kind: stalled ? 'stalled' : 'recovered', card: card.served }),
      // Before the card is connected, its nodes are written with Connected.
      carrierChanged: () => {
        if (card.isConnected) device.publish(nodes).catch(failed)
      },
    })
    // Registered before it is plugged in, so that a failure is reported with the card's nodes.
    this.#cards.set(device, card)
    const link = await this.#ask(requested).catch((error: unknown) => {
      if (error !== this.#abandon.reason) throw error
      // The service ends before the card was offered.
      this.tell({ kind: 'declined', card: card.served, error })
      return 'decline' as const
    })
    if (link === 'decline') {
      this.#cards.delete(device)
      return undefined
    }
    await card.plug(link, this.#abandon)
    return offerNodes.format({
      'feature-rx-copy': true,
      'feature-rx-flip': false,
      'feature-sg': true,
      'feature-gso-tcpv4': true,
      'feature-gso-tcpv6': true,
      'feature-ipv6-csum-offload': true,
      'feature-multicast-control': true,
      'feature-dynamic-multicast-control': true,
      'feature-xdp-headroom': true,
      'feature-ctrl-ring': true,
      'feature-split-event-channels': true,
      'multi-queue-max-queues': this.#queues,
    })
  }

  removed(device: BackendDevice): void {
    const card = this.#cards.get(device)
    this.#cards.delete(device)
    card
      ?.unplug()
      .catch((error: unknown) => this.tell({ kind: 'failed', card: card.served, error }))
  }

  async connect(device: BackendDevice): Promise<BackendConnection> {
    const card = this.#cards.get(device)
    if (!card) throw new TypeError(`"${device.path}" was not offered`)
    const read = (): Promise<FrontendRings> =>
      readFrontendRings(this.#xs, device.frontendPath, this.#queues)
    const frontend = await read()
    const queues = await connectQueues(this.#hv, {
      domid: device.frontendDomid,
      frontend,
      link: card.end,
      credit: card.credit,
      counters: card.counters.own,
      stalled: (stalled) => card.stalled(stalled),
      failed: (error) => device.fail(error),
      abandon: this.#abandon,
    })
    const close = async (how: CloseOptions): Promise<void> => {
      try {
        card.disconnected()
      } finally {
        await queues.close(how)
      }
    }
    try {
      card.connected(queues)
    } catch (error) {
      await close({ frontend: 'gone' })
      throw error
    }
    const end = new AbortController()
    void this.#followMulticast(device, queues, end.signal)
    return {
      get nodes() {
        return statusOf(card)
      },
      isCurrent: () => isStillPublished(publishedRings(frontend), read().then(publishedRings)),
      close(how) {
        end.abort()
        return close(how)
      },
    }
  }

  async reconfigured(device: BackendDevice): Promise<void> {
    this.#cards.get(device)?.reconfigure(await readFeatures(this.#xs, device.frontendPath))
  }

  /**
   * Follows the node by which a connected guest turns its multicast filter on and off, as drivers
   * of Windows do when a program listens to all addresses.
   */
  async #followMulticast(
    device: BackendDevice,
    queues: CardQueues,
    signal: AbortSignal,
  ): Promise<void> {
    const { frontendPath } = device
    try {
      for await (const _ of this.#xs.watch(`${frontendPath}/request-multicast-control`, {
        signal,
      })) {
        const { multicastControl } = await readFeatures(this.#xs, frontendPath)
        queues.filterMulticast(multicastControl)
      }
    } catch (error) {
      if (!signal.aborted) device.fail(error)
    }
  }

  async changed(device: BackendDevice): Promise<void> {
    const card = this.#cards.get(device)
    if (!card) return
    const [{ rate }, asked] = await Promise.all([
      readRequestedCard(this.#xs, device),
      readWatchRequest(this.#xs, device),
    ])
    const { credit, watch } = card
    const hasOtherRate =
      rate?.bytes !== credit.rate?.bytes || rate?.periodUs !== credit.rate?.periodUs
    if (hasOtherRate) credit.change(rate)
    // The toolstack removes the nodes after the answer: that asks for nothing.
    const wanted = {
      capture: asked.capture === watch.capture ? undefined : asked.capture,
      mirror: asked.mirror === watch.mirror ? undefined : asked.mirror,
    }
    const isAsked = (wanted.capture ?? wanted.mirror) !== undefined
    if (isAsked) await this.#watch(card.served, wanted)
    card.watch = asked
    if (hasOtherRate || isAsked) this.tell({ kind: 'changed', card: card.served })
  }

  async #watch(card: RequestedCard, wanted: WatchRequest): Promise<void> {
    const { watch } = this.#o
    if (!watch) {
      throw new NotAvailableError(`the server of ${card.name} has no captures and mirrors`)
    }
    await unlessAborted(Promise.resolve(watch(card, wanted)), this.#abandon)
  }

  async #ask(card: RequestedCard): Promise<LinkAnswer> {
    const { link } = this.#o
    const answer = typeof link === 'function' ? await this.#askFunction(link, card) : link
    if (answer !== 'decline') expectLink(answer)
    return answer
  }

  /** @throws DeviceAbandonedError if the function doesn't answer in time */
  #askFunction(link: LinkFunction, card: RequestedCard): Promise<LinkAnswer> {
    return unlessAborted(Promise.resolve(link(card)), this.#abandon)
  }
}

const statusOf = ({ isUp }: PluggedCard): NodeValues => linkNodes.format({ carrier: isUp })

/** @throws TypeError for a value that is no link */
function expectLink(link: unknown): asserts link is Link {
  const isLink =
    typeof link === 'object' && link !== null && 'plug' in link && typeof link.plug === 'function'
  if (!isLink) throw new TypeError('"link" expected a link, which is an object with "plug"')
}
