/**
 * TAP devices: each card gets a network interface of the host, which may join a bridge. Incomplete
 * frames pass both ways, so TCP segments of up to 64 KiB stay whole.
 */
import { ArenaFullError, NotAvailableError, PAGE_SIZE } from '@xenkit/hypervisor'
import {
  ALL_OFFLOADS,
  type Card,
  type FrameMemory,
  Frames,
  FrameSender,
  type Link,
  NO_OFFLOADS,
  type Offloads,
  type PluggedLink,
} from '@xenkit/frames'
import { LinkError } from './link-error.ts'
import { type LinkEvent, Reopening } from './reopening.ts'
import { TAP_BATCH, type TapCalls, TapQueue } from './tap-queue.ts'

/** How the interfaces of a `TapLink` are opened. */
export interface TapOptions {
  /**
   * Name of the interface, 1..15 bytes. It is created unless it exists. The kernel makes a number
   * of `%d`. Default: the card's name, so that one link serves many cards.
   */
  readonly name?: string
  /** Whether other threads or programs may open further queues of the interface. Default false. */
  readonly multiQueue?: boolean
  /** Whether the interface stays when it is closed. Default false. */
  readonly persistent?: boolean
  /** Most bytes of a frame without its Ethernet header. Default: what the interface has, 1500. */
  readonly mtu?: number
  /** Whether to set the interface up: frames pass only then. Default true. */
  readonly up?: boolean
  /** Called when a card's interface is lost, can't be opened again, or is open again. */
  readonly onEvent?: (event: LinkEvent) => void
}

/** A link that gives each card a TAP device. */
export interface TapLink extends Link {
  /**
   * Number of frames dropped, of all cards: frames that the kernel didn't take, since the interface
   * was down or deleted, and frames of more than 65,535 bytes.
   */
  readonly dropped: number
}

/**
 * Returns a link that gives each card a TAP device, as `openTap` of xenkit does, with the given
 * calls in place of the addon's.
 * @throws NotAvailableError without the addon
 */
export function openTapWith({ openTapDevice }: TapCalls, o: TapOptions = {}): TapLink {
  if (!openTapDevice) {
    throw new NotAvailableError(
      "TAP devices need the native addon, which can't be loaded: build it, or use passt",
    )
  }
  const memory = new ReceiveMemory()
  const shared = { open: openTapDevice, options: o, memory, dropped: 0 }
  return {
    get dropped() {
      return shared.dropped
    },
    plug: (card) => new Tap(card, shared),
  }
}

/** What the cards of a link have in common. */
interface Shared {
  readonly open: NonNullable<TapCalls['openTapDevice']>
  readonly options: TapOptions
  readonly memory: ReceiveMemory
  dropped: number
}

/**
 * Memory for received frames while a link has cards: 4.25 MiB for all of them, since a batch is
 * used up before the next is read. It is the first card's.
 */
class ReceiveMemory {
  #pages: ReturnType<FrameMemory['allocate']> | undefined
  #bytes: Uint8Array | undefined
  #users = 0

  take(bytes: number, memory: FrameMemory | undefined): Uint8Array {
    if (!this.#bytes && memory) this.#allocate(bytes, memory)
    const place = (this.#bytes ??= this.#pages?.bytes ?? new Uint8Array(bytes))
    this.#users++
    return place
  }

  give(): void {
    if (--this.#users > 0) return
    this.#pages?.close()
    this.#pages = this.#bytes = undefined
  }

  /** Guests may have filled the card's memory: frames are copied twice then. */
  #allocate(bytes: number, memory: FrameMemory): void {
    try {
      this.#pages = memory.allocate(Math.ceil(bytes / PAGE_SIZE))
    } catch (error) {
      if (!(error instanceof ArenaFullError)) throw error
    }
  }
}

/** A card's TAP device. */
class Tap implements PluggedLink {
  readonly offloads: Offloads = ALL_OFFLOADS
  readonly #card: Card
  readonly #shared: Shared
  readonly #sender: FrameSender
  readonly #received = new Frames(TAP_BATCH)
  readonly #reopening: Reopening
  #name: string
  /** Undefined while the interface is lost, and when the link is closed. */
  #queue: TapQueue | undefined
  /** Where received frames lie, from the first opening to `close`. */
  #memory: Uint8Array | undefined
  /** Whether the card takes frames. */
  #up = false
  #paused = false

  /** @throws LinkError if the interface can't be opened */
  constructor(card: Card, shared: Shared) {
    const { name = card.name, onEvent = () => {} } = shared.options
    this.#card = card
    this.#shared = shared
    this.#sender = new FrameSender(card)
    this.#name = name
    this.#reopening = new Reopening(card.name, onEvent, () => this.#open())
    try {
      this.#open()
    } catch (error) {
      this.close()
      throw error
    }
  }

  send(frames: Frames): void {
    for (let first = 0; first < frames.count; first += TAP_BATCH) {
      const count = Math.min(TAP_BATCH, frames.count - first)
      this.#shared.dropped += count - (this.#queue?.send(frames, first, count) ?? 0)
    }
  }

  carrier(up: boolean): void {
    this.#up = up
    try {
      this.#follow()
    } catch (error) {
      this.#lost(error)
    }
  }

  pause(paused: boolean): void {
    this.#paused = paused
    this.#watch()
  }

  close(): void {
    this.#reopening.stop()
    this.#queue?.close()
    this.#queue = undefined
    if (this.#memory) this.#shared.memory.give()
    this.#memory = undefined
  }

  #open(): void {
    const { multiQueue = false, persistent = false, mtu, up = true } = this.#shared.options
    const queue = new TapQueue(this.#shared.open, {
      name: this.#name,
      multiQueue,
      onReady: (status) => this.#onReady(status),
    })
    // A number has replaced `%d`.
    this.#name = queue.name
    this.#queue = queue
    try {
      this.#memory ??= this.#shared.memory.take(queue.receiveBytes, this.#card.memory)
      queue.change((device) => {
        if (persistent) device.setPersistent(true)
        if (mtu !== undefined) device.setMtu(mtu)
        if (up) device.setUp(true)
      })
      this.#follow()
    } catch (error) {
      this.#queue = undefined
      queue.close()
      throw error
    }
    this.#card.carrier?.(true)
  }

  /** Tells the interface whether the card takes frames, and which. */
  #follow(): void {
    const queue = this.#queue
    if (!queue) return
    if (this.#up) queue.setOffloads(this.#card.offloads ?? NO_OFFLOADS)
    queue.change((device) => device.setCarrier(this.#up))
    this.#watch()
  }

  #watch(): void {
    this.#queue?.watch(this.#up && !this.#paused)
  }

  /** Sends a batch of the interface's frames to the card. */
  #onReady(status: number): void {
    if (status < 0) {
      this.#lost(new LinkError(`tap "${this.#name}" was deleted`, { name: this.#name }))
      return
    }
    if (!this.#queue || !this.#memory) return
    const frames = this.#received
    const count = this.#queue.receive(frames, this.#memory)
    this.#shared.dropped += count - frames.count
    if (frames.count > 0) this.#sender.send(frames)
  }

  #lost(error: unknown): void {
    this.#queue?.close()
    this.#queue = undefined
    this.#card.carrier?.(false)
    this.#reopening.lost(error)
  }
}
