/** A card between its guest and its link, from the offer to the removal. */
import { unlessAborted } from '@xenkit/backend'
import {
  type Card,
  type FrameMemory,
  type Frames,
  type Link,
  NO_OFFLOADS,
  type Offloads,
  type PluggedLink,
} from '@xenkit/frames'
import type { FrontendFeatures } from '../nodes.ts'
import type { RequestedCard, WatchRequest } from '../requested-card.ts'
import type { CardQueues } from './connect.ts'
import { Credit } from './credit.ts'
import { CardCounters, VifCount } from './stats.ts'
import type { ServedCard } from './vif-event.ts'

/** Options of `PluggedCard`. */
export interface PluggedCardOptions {
  /** Called when the link is lost for good. */
  readonly failed: (error: unknown) => void
  /** Called when the link's carrier came or went. */
  readonly carrierChanged: () => void
  /** Called when the guest has stopped to post buffers, and when it posts them again. */
  readonly stalled: (stalled: boolean) => void
}

/** A card that is plugged into its link. While no guest uses it, its carrier is off. */
export class PluggedCard implements Card {
  readonly name: string
  readonly domid: number
  readonly devid: number
  readonly mac: Uint8Array | undefined
  readonly memory: FrameMemory
  readonly counters = new CardCounters()
  /** The guest's rate limit, kept over reconnects. */
  readonly credit: Credit
  readonly served: ServedCard
  /** The last request to watch the card that was followed. */
  watch: WatchRequest = {}
  readonly #o: PluggedCardOptions
  #end: PluggedLink | undefined
  #queues: CardQueues | undefined
  #stalledQueues = 0
  /** A link that never calls `carrier` is always up. */
  #isUp = true

  constructor(requested: RequestedCard, memory: FrameMemory, o: PluggedCardOptions) {
    const { counters } = this
    this.name = requested.name
    this.domid = requested.frontendDomid
    this.devid = requested.devid
    this.mac = requested.mac
    this.memory = memory
    this.served = {
      ...requested,
      get stats() {
        return counters.stats
      },
    }
    this.credit = new Credit(requested.rate)
    this.#o = o
  }

  /** What the guest takes. */
  get offloads(): Offloads {
    return this.#queues?.offloads ?? NO_OFFLOADS
  }

  /** The link's end of the cable. @throws TypeError before the card is plugged in */
  get end(): PluggedLink {
    if (!this.#end) throw new TypeError(`"${this.name}" is not plugged in`)
    return this.#end
  }

  /** Plugs the card in. A link that answers only after `abandon` aborted is unplugged again. */
  async plug(link: Link, abandon: AbortSignal): Promise<void> {
    const plugging = Promise.resolve(link.plug(this))
    try {
      this.#end = await unlessAborted(plugging, abandon)
    } catch (error) {
      plugging
        .then(
          (late) => late.close(),
          () => {},
        )
        .catch(this.#o.failed)
      throw error
    }
  }

  /** Unplugs the card. Idempotent. */
  async unplug(): Promise<void> {
    const end = this.#end
    this.#end = undefined
    this.credit.close()
    await end?.close()
  }

  /**
   * Turns the carrier off while a queue of the guest is stalled, since what the link sends would be
   * dropped.
   */
  stalled(stalled: boolean): void {
    const before = this.#stalledQueues
    this.#stalledQueues += stalled ? 1 : -1
    if (before > 0 === this.#stalledQueues > 0) return
    this.end.carrier?.(!stalled)
    this.#o.stalled(stalled)
  }

  /** Connects the guest: its queues take frames from now on. */
  connected(queues: CardQueues): void {
    this.#queues = queues
    this.counters.queues = queues.count
    this.end.carrier?.(true)
  }

  /** Follows what the guest has changed while it is connected. */
  reconfigure(features: FrontendFeatures): void {
    this.#queues?.reconfigure(features)
  }

  disconnected(): void {
    this.#queues = undefined
    this.#stalledQueues = 0
    this.counters.queues = 0
    this.end.carrier?.(false)
  }

  get isConnected(): boolean {
    return this.#queues !== undefined
  }

  /** Takes frames from the link, for the guest. */
  send(frames: Frames): void {
    if (this.#queues) this.#queues.receive(frames)
    else this.counters.own.add(VifCount.RECEIVE_DROPS, frames.count)
  }

  /** Whether the link's carrier is up. */
  get isUp(): boolean {
    return this.#isUp
  }

  carrier(up: boolean): void {
    if (up === this.#isUp) return
    this.#isUp = up
    this.#o.carrierChanged()
  }

  fail(error: unknown): void {
    this.#o.failed(error)
  }
}
