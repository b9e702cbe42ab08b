/** `mirrorLink` and `openMirror`: copy the frames of cards to another link, as SPAN does. */
import { FrameSender, type Frames, type Link, type LinkEnd } from '@xenkit/frames'
import { type FrameDirection, layerOn } from './layer.ts'
import { type VirtualCardOptions, virtualCard } from './virtual-card.ts'

/** Where copies of frames go. Closing it ends them; the frames themselves still pass. */
export class Mirror implements AsyncDisposable {
  /** Frames that were copied. */
  copied = 0
  /** Frames that weren't: the link passes the copies on to a link that is mirrored to it. */
  looped = 0
  readonly #close: () => void | Promise<void>
  #sender: FrameSender | undefined
  #isCopying = false

  /**
   * @param end takes the copies
   * @param close called once, by `close`
   */
  constructor(end: LinkEnd, close: () => void | Promise<void>) {
    this.#sender = new FrameSender(end)
    this.#close = close
  }

  /** Copies frames. They stay the caller's, unchanged. */
  copy(frames: Frames): void {
    if (this.#isCopying) {
      this.looped += frames.count
      return
    }
    this.#isCopying = true
    try {
      this.#sender?.send(frames)
      this.copied += frames.count
    } finally {
      this.#isCopying = false
    }
  }

  async close(): Promise<void> {
    if (!this.#sender) return
    this.#sender = undefined
    await this.#close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/**
 * Opens a mirror into a link, as if a card sent the copies. What the link sends is dropped.
 * @throws Error of the link
 */
export async function openMirror(link: Link, o: VirtualCardOptions = {}): Promise<Mirror> {
  const card = virtualCard(o, async () => mirror?.close())
  let mirror: Mirror | undefined
  const end = await link.plug({ ...card, send: () => {} })
  mirror = new Mirror(end, () => end.close())
  return mirror
}

/**
 * Copies the frames of cards to a mirror.
 * @param direction frames to copy; default: both directions
 */
export function mirrorLink(base: Link, mirror: Mirror, direction?: FrameDirection): Link {
  return layerOn(base, () => ({
    pass(frames, next, way) {
      // First, so that an answer that is sent at once doesn't overtake its question.
      if (direction === undefined || direction === way) mirror.copy(frames)
      next.send(frames)
    },
  }))
}
