/** `SwitchPort`: a port of a switch, and the card or link that is plugged into it. */
import {
  ALL_OFFLOADS,
  type Card,
  FrameSender,
  Frames,
  type Link,
  type PluggedLink,
} from '@xenkit/frames'
import { type PortOptions, PortSettings } from './port-settings.ts'

/** Numbers of frames since a port was opened. */
export interface PortStats {
  /** Frames that came in. */
  received: number
  /** Frames that went out. */
  sent: number
  /** Dropped when they came in: from an address that the port may not use. */
  spoofed: number
  /** Dropped when they came in: of a VLAN that the port isn't in, or that can't be tagged so. */
  wrongVlan: number
  /** Dropped when they came in: for a port that is isolated too. */
  isolated: number
  /** Dropped when they came in: from no card's address, or for the switch itself, as a PAUSE is. */
  invalid: number
  /** Dropped when they came in: sent by an end in answer to an answer to an answer, too deeply. */
  nested: number
  /** Dropped when they were to go out: a checksum or segments couldn't be computed. */
  incomplete: number
}

/** Frames of a batch that is sent to a port. */
const BATCH = 256

/** Frames on their way to a port, in one of several nested sends. */
interface Lane {
  readonly frames: Frames
  readonly sender: FrameSender
}

/** A port of a switch: what one card is plugged into. */
export interface SwitchPort extends Link, AsyncDisposable {
  /** Numbers of frames since the port was opened. */
  readonly stats: Readonly<PortStats>
  /**
   * Changes all options: those that aren't given are the defaults. The switch forgets the addresses
   * that it has learned at the port.
   * @throws RangeError for an option that isn't valid; nothing is changed then
   */
  change(options: PortOptions): void
  /** Removes the port. The card in it loses its carrier, an uplink is unplugged. */
  close(): Promise<void>
}

/** What a port needs of its switch. */
export interface PortOwner {
  /** Sends frames that came in by a port to others. */
  forward(from: Port, frames: Frames): void
  /** Forgets the addresses that were seen at a port. */
  forget(port: Port): void
  /** Does so, and notes the addresses that belong to the port. */
  update(port: Port): void
  remove(port: Port): void
}

/** A port, as its switch sees it. */
export class Port implements SwitchPort {
  readonly stats: PortStats = {
    received: 0,
    sent: 0,
    spoofed: 0,
    wrongVlan: 0,
    isolated: 0,
    invalid: 0,
    nested: 0,
    incomplete: 0,
  }
  /** Number of addresses that were learned here. */
  learned = 0
  /** Whether frames can be sent to the card. */
  isUp = false
  readonly #owner: PortOwner
  #settings: PortSettings
  #card: Card | undefined
  #lanes: Lane[] = []
  /** The link that an uplink's port is plugged into. */
  #link: PluggedLink | undefined
  #isClosed = false

  constructor(owner: PortOwner, options: PortOptions) {
    this.#owner = owner
    this.#settings = new PortSettings(options, undefined)
  }

  get settings(): PortSettings {
    return this.#settings
  }

  change(options: PortOptions): void {
    this.#settings = new PortSettings(options, this.#card)
    this.#owner.update(this)
  }

  plug(card: Card): PluggedLink {
    if (this.#isClosed) throw new RangeError('the port of the switch is closed')
    if (this.#card) throw new RangeError('the port of the switch is in use by another card')
    this.#settings = new PortSettings(this.#settings.options, card)
    this.#card = card
    this.#owner.update(this)
    card.carrier?.(true)
    const isPlugged = (): boolean => this.#card === card
    return {
      offloads: ALL_OFFLOADS,
      send: (frames) => {
        if (isPlugged()) this.#owner.forward(this, frames)
      },
      carrier: (up) => {
        if (isPlugged()) this.setCarrier(up)
      },
      close: () => {
        if (isPlugged()) this.unplug()
      },
    }
  }

  /** Notes whether the card takes frames. */
  setCarrier(up: boolean): void {
    this.isUp = up
    if (!up) this.#owner.forget(this)
  }

  unplug(): void {
    this.#card = undefined
    this.#lanes = []
    this.setCarrier(false)
  }

  /**
   * Adds a frame to those on their way. Returns whether it is the first.
   * @param depth of nested sends
   */
  add(frames: Frames, index: number, depth: number): boolean {
    if (!this.#card) return false
    const { frames: batch } = (this.#lanes[depth] ??= openLane(this.#card))
    if (batch.memory !== frames.memory || batch.count === batch.capacity) {
      this.flush(depth)
      batch.reset(frames.memory)
    }
    batch.addFrom(frames, index)
    return batch.count === 1
  }

  /** Sends the frames that are on their way. */
  flush(depth: number): void {
    const lane = this.#lanes[depth]
    if (!lane || lane.frames.count === 0) return
    const { frames, sender } = lane
    const before = sender.dropped
    try {
      sender.send(frames)
      const incomplete = sender.dropped - before
      this.stats.sent += frames.count - incomplete
      this.stats.incomplete += incomplete
    } catch (error) {
      // A layer over the card is at fault, so the card fails, not the one that has sent the frames.
      this.#card?.fail(error)
    }
    frames.reset()
  }

  /**
   * Closes a link along with the port. @throws RangeError if the port is closed; the link is, too
   */
  async own(link: PluggedLink): Promise<void> {
    if (this.#isClosed) {
      await link.close()
      throw new RangeError('the port of the switch was closed before its link was open')
    }
    this.#link = link
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    const card = this.#card
    this.unplug()
    this.#owner.remove(this)
    card?.carrier?.(false)
    await this.#link?.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

const openLane = (card: Card): Lane => ({
  frames: new Frames(BATCH),
  sender: new FrameSender(card),
})
