/** `WatchedCard`: a served card that can be captured and mirrored while its guest uses it. */
import { type Card, type Link, NO_OFFLOADS, type PluggedLink } from '@xenkit/frames'
import {
  type FrameWatcher,
  LinkError,
  type WatchedLink,
  openCapture,
  openErspan,
  openMirror,
  watchLink,
} from '@xenkit/links'
import type { WatchRequest } from '@xenkit/vif'
import { openTap } from '../open-tap.ts'
import { type MirrorPort, parseMirrorTarget } from './mirror-target.ts'

/** Longest wait for a named pipe's reader: less than the command waits for an answer. */
const READER_TIMEOUT_MS = 5_000

/** A capture or a mirror that runs. */
interface Watch {
  /** Ends the calls with frames. */
  readonly watching: Disposable
  readonly output: { close(): Promise<void> }
}

/** What a card needs to know of the others. */
export interface WatchedCardOptions {
  /** Name for the operator. */
  readonly name: string
  /** Finds the card that this one is to be mirrored to. */
  find(domid: number, devid: number): WatchedCard | undefined
  /** Called when the card has been unplugged. */
  unplugged(): void
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error)

/** The link of one card, around the link that the card would have otherwise. */
export class WatchedCard implements Link {
  readonly #o: WatchedCardOptions
  readonly #link: WatchedLink
  readonly #watches = new Map<keyof WatchRequest, Watch>()
  /** Mirrors that send copies to this card. */
  readonly #mirrors = new Set<Card>()
  #card: Card | undefined

  constructor(base: Link, o: WatchedCardOptions) {
    this.#o = o
    this.#link = watchLink(base, () => this.#unplugged())
  }

  async plug(card: Card): Promise<PluggedLink> {
    const end = await this.#link.plug(card)
    this.#card = card
    return end
  }

  /** Follows a request. A new capture or mirror replaces the one that runs. */
  async follow({ capture, mirror }: WatchRequest): Promise<void> {
    if (capture !== undefined) {
      await this.#end('capture')
      if (capture !== '') await this.#capture(capture)
    }
    if (mirror !== undefined) {
      await this.#end('mirror')
      if (mirror !== '') await this.#mirror(mirror)
    }
  }

  async #capture(path: string): Promise<void> {
    const signal = AbortSignal.timeout(READER_TIMEOUT_MS)
    const onError = (error: Error): void => this.#lost('capture', error)
    const capture = await openCapture(path, { signal, onError }).catch((error: unknown) => {
      const why = signal.aborted ? 'nobody reads the pipe' : messageOf(error)
      throw new LinkError(`"${path}" can't be written: ${why}`, { name: path }, { cause: error })
    })
    const card = capture.interface(this.#o.name)
    await this.#start('capture', capture, (frames, way) => card.record(frames, way))
  }

  async #mirror(text: string): Promise<void> {
    const target = parseMirrorTarget(text)
    if (!target) throw new LinkError(`"${text}" is no target of a mirror`, { name: text })
    const onFail = (error: unknown): void => this.#lost('mirror', error)
    const o = { name: `copies of ${this.#o.name}`, onFail }
    const link = this.#port(target.port)
    const opening = target.tunnel
      ? openErspan(link, { ...o, ...target.tunnel })
      : openMirror(link, o)
    const mirror = await opening.catch((error: unknown) => {
      throw new LinkError(messageOf(error), { name: text }, { cause: error })
    })
    await this.#start('mirror', mirror, (frames) => mirror.copy(frames))
  }

  #port(port: MirrorPort): Link {
    if (port.kind === 'tap') return openTap({ name: port.name })
    const card = this.#o.find(port.domid, port.devid)
    if (card && card !== this) return card.#monitor
    const name = `card ${port.devid} of domain ${port.domid}`
    throw new LinkError(
      card ? `${name} can't be mirrored to itself` : `${name} isn't served by this program`,
      { name },
    )
  }

  /** A link whose frames reach this card's guest. */
  get #monitor(): Link {
    return {
      plug: (mirror) => {
        const card = this.#card
        if (!card) throw new LinkError(`${this.#o.name} is gone`, { name: this.#o.name })
        this.#mirrors.add(mirror)
        return {
          get offloads() {
            return card.offloads ?? NO_OFFLOADS
          },
          send: (frames) => card.send(frames),
          close: () => void this.#mirrors.delete(mirror),
        }
      },
    }
  }

  async #start(kind: keyof WatchRequest, output: Watch['output'], watcher: FrameWatcher) {
    if (this.#card) this.#watches.set(kind, { output, watching: this.#link.watch(watcher) })
    // The card was unplugged while the output was opened.
    else await output.close()
  }

  async #end(kind: keyof WatchRequest): Promise<void> {
    const watch = this.#watches.get(kind)
    this.#watches.delete(kind)
    watch?.watching[Symbol.dispose]()
    await watch?.output.close()
  }

  #lost(kind: keyof WatchRequest, error: unknown): void {
    console.error(`${this.#o.name}: its ${kind} ended: ${messageOf(error)}`)
    this.#watches.get(kind)?.watching[Symbol.dispose]()
    this.#watches.delete(kind)
  }

  #unplugged(): void {
    this.#card = undefined
    const { name } = this.#o
    for (const mirror of this.#mirrors) mirror.fail(new LinkError(`${name} is gone`, { name }))
    for (const kind of this.#watches.keys()) {
      this.#end(kind).catch((error: unknown) => this.#lost(kind, error))
    }
    this.#o.unplugged()
  }
}
