/** Helpers for links on top of another link. */
import {
  type Card,
  type FrameMemory,
  type Frames,
  type Link,
  type LinkEnd,
  NO_OFFLOADS,
  type Offloads,
  type PluggedLink,
} from '@xenkit/frames'

/** Way of a frame: what the card's guest sends comes `from-card`. */
export type FrameDirection = 'from-card' | 'to-card'

/** What a layer does for one card. */
export interface Layer {
  /** What the layer takes, in both directions. Default: what the end that it sends to takes. */
  readonly offloads?: Offloads
  /** Takes frames. They are sent on, if they are, to the `next` end. */
  pass(frames: Frames, next: LinkEnd, direction: FrameDirection): void
  /** Called when the card is unplugged: no frame comes any more, and none may be sent. */
  close?(): void
}

/**
 * Returns a link on top of `base`.
 * @param open called for each card that is plugged in, before it is plugged into `base`
 */
export function layerOn(base: Link, open: (card: Card) => Layer): Link {
  return {
    plug(card) {
      const layer = open(card)
      const plugged = (link: PluggedLink): PluggedLink => new LayeredLink(link, layer)
      const failed = (error: unknown): never => {
        layer.close?.()
        throw error
      }
      try {
        const link = base.plug(new LayeredCard(card, layer))
        return link instanceof Promise ? link.then(plugged, failed) : plugged(link)
      } catch (error) {
        return failed(error)
      }
    },
  }
}

/** An end, as the end on the other side of a layer sees it. */
class LayeredEnd<End extends LinkEnd> implements LinkEnd {
  readonly pause?: (paused: boolean) => void
  protected readonly end: End
  protected readonly layer: Layer
  readonly #direction: FrameDirection

  constructor(end: End, layer: Layer, direction: FrameDirection) {
    this.end = end
    this.layer = layer
    this.#direction = direction
    if (end.pause) this.pause = (paused) => end.pause?.(paused)
  }

  get offloads(): Offloads {
    return this.layer.offloads ?? this.end.offloads ?? NO_OFFLOADS
  }

  send(frames: Frames): void {
    this.layer.pass(frames, this.end, this.#direction)
  }

  carrier(up: boolean): void {
    this.end.carrier?.(up)
  }
}

class LayeredCard extends LayeredEnd<Card> implements Card {
  readonly name: string
  readonly domid: number
  readonly devid: number
  readonly mac: Uint8Array | undefined
  readonly memory?: FrameMemory

  constructor(card: Card, layer: Layer) {
    super(card, layer, 'to-card')
    if (card.memory) this.memory = card.memory
    this.name = card.name
    this.domid = card.domid
    this.devid = card.devid
    this.mac = card.mac
  }

  fail(error: unknown): void {
    this.end.fail(error)
  }
}

class LayeredLink extends LayeredEnd<PluggedLink> implements PluggedLink {
  constructor(link: PluggedLink, layer: Layer) {
    super(link, layer, 'from-card')
  }

  close(): void | Promise<void> {
    const closing = this.end.close()
    this.layer.close?.()
    return closing
  }
}
