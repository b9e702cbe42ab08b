/** `watchLink`: a link whose frames can be watched while cards are plugged into it. */
import type { Card, Frames, Link, PluggedLink } from '@xenkit/frames'
import { type FrameDirection, layerOn } from './layer.ts'

/** Sees frames before they are sent on. They stay the caller's, unchanged. */
export type FrameWatcher = (frames: Frames, direction: FrameDirection) => void

/** A link whose frames can be watched. Without watchers, a batch costs it a comparison. */
export class WatchedLink implements Link {
  readonly #layered: Link
  readonly #watchers = new Set<FrameWatcher>()
  /** The same watchers; undefined if there are none. */
  #active: readonly FrameWatcher[] | undefined

  /** @param unplugged called with each card that has been unplugged */
  constructor(base: Link, unplugged?: (card: Card) => void) {
    this.#layered = layerOn(base, (card) => ({
      pass: (frames, next, direction) => {
        // First, so that an answer that is sent at once isn't seen before its question.
        if (this.#active) for (const watch of this.#active) watch(frames, direction)
        next.send(frames)
      },
      close: () => unplugged?.(card),
    }))
  }

  plug(card: Card): PluggedLink | Promise<PluggedLink> {
    return this.#layered.plug(card)
  }

  /** Calls the function with all frames, in both directions, until the result is disposed of. */
  watch(watcher: FrameWatcher): Disposable {
    this.#watchers.add(watcher)
    this.#update()
    return {
      [Symbol.dispose]: () => {
        this.#watchers.delete(watcher)
        this.#update()
      },
    }
  }

  #update(): void {
    this.#active = this.#watchers.size === 0 ? undefined : [...this.#watchers]
  }
}

/**
 * Lets the frames of cards be watched, from one moment to another.
 * @param unplugged called with each card that has been unplugged
 */
export const watchLink = (base: Link, unplugged?: (card: Card) => void): WatchedLink =>
  new WatchedLink(base, unplugged)
