/** `CardLinks`: opens what network cards are plugged into, by a command's options. */
import type { Link } from '@xenkit/frames'
import { type Capture, Switch, captureLink, openCapture, openSwitch } from '@xenkit/links'
import type { RequestedCard } from '@xenkit/vif'

/** Options that say what cards are plugged into. */
export interface LinkChoice {
  /** A switch within the command. */
  readonly switch: boolean
  /** File to capture all frames to. */
  readonly capture?: string
}

/** The links of the cards that a command serves. */
export class CardLinks implements AsyncDisposable {
  readonly #lan: Switch
  readonly #capture: Capture | undefined

  private constructor(lan: Switch, capture: Capture | undefined) {
    this.#lan = lan
    this.#capture = capture
  }

  /** @throws an errno if the file of a capture can't be written */
  static async open(o: LinkChoice): Promise<CardLinks> {
    const capture =
      o.capture === undefined
        ? undefined
        : await openCapture(o.capture, {
            onError: ({ message }) => console.error(`the capture ended: ${message}`),
          })
    return new CardLinks(openSwitch(), capture)
  }

  /** The option `link` of `serveVif`. */
  readonly link = (card: RequestedCard): Link => {
    const link = this.#lan.ports(addressesOf(card))
    return this.#capture ? captureLink(link, this.#capture) : link
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lan.close()
    await this.#capture?.close()
  }
}

/** A guest sends from the addresses that the toolstack gave to its card; from any if it gave none. */
const addressesOf = ({ mac, ips }: RequestedCard) => ({
  ...(mac && { macs: 'card' as const }),
  ...(ips.length > 0 && { ips }),
})
