/** `openCable`: connects two cards directly. */
import { type Card, type Link, type LinkEnd, NO_OFFLOADS, type PluggedLink } from '@xenkit/frames'

/** A cable: each of its ends is a link for one card. */
export type Cable = readonly [Link, Link]

/**
 * Opens a cable between two cards. Each card's carrier follows the other's.
 * @throws RangeError when a second card is plugged into an end
 */
export function openCable(): Cable {
  const ends: [CableEnd, CableEnd] = [new CableEnd(() => ends[1]), new CableEnd(() => ends[0])]
  return ends
}

/** One end of a cable, and the card that is plugged into it. */
class CableEnd implements Link {
  card: Card | undefined
  up = false
  readonly #far: () => CableEnd

  constructor(far: () => CableEnd) {
    this.#far = far
  }

  plug(card: Card): PluggedLink {
    if (this.card) throw new RangeError('the end of the cable is in use by another card')
    this.card = card
    if (this.#far().up) card.carrier?.(true)
    const far = (): LinkEnd | undefined => this.#far().card
    return {
      get offloads() {
        return far()?.offloads ?? NO_OFFLOADS
      },
      send: (frames) => far()?.send(frames),
      carrier: (up) => {
        this.up = up
        far()?.carrier?.(up)
      },
      pause: (paused) => far()?.pause?.(paused),
      close: () => {
        this.card = undefined
        this.up = false
        far()?.carrier?.(false)
      },
    }
  }
}
