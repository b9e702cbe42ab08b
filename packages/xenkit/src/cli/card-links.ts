/** `CardLinks`: opens what network cards are plugged into, by a command's options. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Link } from '@xenkit/frames'
import {
  type Capture,
  type LinkEvent,
  type Switch,
  captureLink,
  openCapture,
  openPasst,
  openSwitch,
} from '@xenkit/links'
import type { RequestedCard, WatchRequest } from '@xenkit/vif'
import { openTap } from '../open-tap.ts'
import { UsageError } from './usage-error.ts'
import { WatchedCard } from './watched-card.ts'

/**
 * Options that say what cards are plugged into: one of these at most. Without any, each card gets a
 * TAP device in the bridge of its configuration.
 */
export interface LinkChoice {
  /** A TAP device for each card, in this bridge of the host. */
  readonly bridge?: string
  /** A TAP device for each card, in no bridge. */
  readonly tap?: boolean
  /** A switch within the command. */
  readonly switch?: boolean
  /** The host's network, by a passt for each card. */
  readonly passt?: boolean
  /** File to capture all frames to. */
  readonly capture?: string
}

/** The links of the cards that a command serves. */
export class CardLinks implements AsyncDisposable {
  readonly #linkOf: (card: RequestedCard) => Link
  readonly #lan: Switch
  readonly #capture: Capture | undefined
  /** The cards that are served, by domid and devid. */
  readonly #cards = new Map<string, WatchedCard>()

  private constructor(o: LinkChoice, capture: Capture | undefined) {
    this.#lan = openSwitch()
    this.#capture = capture
    if (o.switch) this.#linkOf = (card) => this.#lan.ports(addressesOf(card))
    else if (o.passt) this.#linkOf = () => openPasst({ onEvent: printEvent })
    else this.#linkOf = (card) => tapOf(card, o)
  }

  /** @throws an errno if the file of a capture can't be written */
  static async open(o: LinkChoice): Promise<CardLinks> {
    const onError = ({ message }: Error): void => console.error(`the capture ended: ${message}`)
    return new CardLinks(
      o,
      o.capture === undefined ? undefined : await openCapture(o.capture, { onError }),
    )
  }

  /** The option `link` of `serveVif`. */
  readonly link = (card: RequestedCard): Link => {
    const link = this.#linkOf(card)
    const key = keyOf(card.frontendDomid, card.devid)
    const watched = new WatchedCard(this.#capture ? captureLink(link, this.#capture) : link, {
      name: card.name,
      find: (domid, devid) => this.#cards.get(keyOf(domid, devid)),
      unplugged: () => {
        if (this.#cards.get(key) === watched) this.#cards.delete(key)
      },
    })
    this.#cards.set(key, watched)
    return watched
  }

  /** The option `watch` of `serveVif`. */
  readonly watch = async (card: RequestedCard, wanted: WatchRequest): Promise<void> =>
    this.#cards.get(keyOf(card.frontendDomid, card.devid))?.follow(wanted)

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lan.close()
    await this.#capture?.close()
  }
}

const keyOf = (domid: number, devid: number): string => `${domid}.${devid}`

/**
 * A guest sends from the addresses that the toolstack gave to its card; from any if it gave none.
 */
const addressesOf = ({ mac, ips }: RequestedCard) => ({
  ...(mac && { macs: 'card' as const }),
  ...(ips.length > 0 && { ips }),
})

/** A hotplug script that prepares the interface joins it to its bridge itself. */
function tapOf(card: RequestedCard, o: LinkChoice): Link {
  const { name, mtu, script } = card
  const configured = o.tap || script === 'prepares' ? undefined : card.bridge
  const bridge = o.bridge ?? configured
  const join = async (): Promise<void> =>
    bridge === undefined ? undefined : joinBridge(name, bridge)
  const tap = openTap({
    name,
    mtu,
    onEvent(event) {
      printEvent(event)
      if (event.kind === 'reopened') join().catch(({ message }: Error) => console.error(message))
    },
  })
  return {
    async plug(plugged) {
      const end = await tap.plug(plugged)
      try {
        await join()
      } catch (error) {
        await end.close()
        throw error
      }
      return end
    },
  }
}

async function joinBridge(name: string, bridge: string): Promise<void> {
  try {
    await promisify(execFile)('ip', ['link', 'set', 'dev', name, 'master', bridge])
  } catch (error) {
    const found = error instanceof Error && 'stderr' in error ? String(error.stderr) : ''
    const reason = found.trim() || 'the command "ip" of iproute2 can\'t be run'
    throw new UsageError(
      `interface "${name}" can't join bridge "${bridge}": ${reason}: create the bridge, or use --tap, --switch or --passt`,
      { cause: error },
    )
  }
}

function printEvent(event: LinkEvent): void {
  if (event.kind === 'reopened') console.log(`${event.card}: its link works again`)
  else console.error(`${event.card}: its link was lost: ${event.error.message}`)
}
