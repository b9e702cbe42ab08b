/**
 * The contract between a network card's backend and what the card is plugged into: a TAP device, a
 * switch, another card. A cable has two ends. Each end gives the other an object on which to call
 * `send`.
 */
import type { Frames } from './frames.ts'

/** Incomplete frames that an end takes; `FrameSender` completes those that it doesn't take. */
export interface Offloads {
  /** Takes IPv4 frames with a blank checksum. */
  readonly checksum4: boolean
  /** Takes IPv6 frames with a blank checksum. */
  readonly checksum6: boolean
  /** Takes GSO frames of TCP over IPv4. Implies `checksum4`. */
  readonly gso4: boolean
  /** Takes GSO frames of TCP over IPv6. Implies `checksum6`. */
  readonly gso6: boolean
  /** Takes these frames with VLAN tags, too. Default true. */
  readonly tagged?: boolean
}

/** An end that takes complete frames only. */
export const NO_OFFLOADS: Offloads = {
  checksum4: false,
  checksum6: false,
  gso4: false,
  gso6: false,
}

/** An end that takes all incomplete frames. */
export const ALL_OFFLOADS: Offloads = { checksum4: true, checksum6: true, gso4: true, gso6: true }

/** One end of a cable, as the other end sees it. */
export interface LinkEnd {
  /** What `send` takes; default NO_OFFLOADS. Constant between two calls of `carrier`. */
  readonly offloads?: Offloads
  /**
   * Takes frames. The batch and its memory belong to the caller again when the call returns, so
   * copy what is to be kept. The end doesn't write to the memory, since the caller may send the
   * same frames to others. It drops what it can't take, and counts it; it doesn't throw because of
   * a frame.
   *
   * Each frame has at least 14 bytes. Call it through a `FrameSender` unless all frames are
   * complete.
   */
  send(frames: Frames): void
  /**
   * Called when the caller's carrier comes or goes: whether it takes frames and may send some. A
   * card's is down at first; a link that never calls it is up.
   */
  carrier?(up: boolean): void
  /**
   * Asks to hold back frames until called with false, as an Ethernet PAUSE frame does. Ends that
   * can't hold frames back don't have it: the frames that they send meanwhile may be dropped.
   */
  pause?(paused: boolean): void
}

/** Memory from which a card's guest gets frames by one copy. Frames elsewhere are copied twice. */
export interface FrameMemory {
  /**
   * Allocates zeroed pages of 4096 bytes.
   * @throws ArenaFullError when there is no room
   */
  allocate(pages: number): { readonly bytes: Uint8Array; close(): void }
}

/** A card, as its link sees it. */
export interface Card extends LinkEnd {
  /** Where a link that receives frames for the card should put them. */
  readonly memory?: FrameMemory
  /** Name of the interface in the backend's domain: `vif1.0` */
  readonly name: string
  /** The guest's domain. */
  readonly domid: number
  /** Number of the card in its guest. */
  readonly devid: number
  /** The guest's address, as the toolstack says: six bytes. Undefined if it says none. */
  readonly mac: Uint8Array | undefined
  /** Closes the card with the error as the reason; for a link that is lost for good. */
  fail(error: unknown): void
}

/** The link's end of a cable, until it is closed. */
export interface PluggedLink extends LinkEnd {
  /**
   * Unplugs the cable. No call to the card comes after it has returned, though frames in flight may
   * still be sent elsewhere until the promise resolves.
   */
  close(): void | Promise<void>
}

/** What cards are plugged into. */
export interface Link {
  /** Plugs a card in. */
  plug(card: Card): PluggedLink | Promise<PluggedLink>
}
