/** Whole packets of a transmit ring that wait to be sent, oldest first, as columns. */
import { TURN } from '@xenkit/backend'
import { Gso, type Offloads } from '@xenkit/frames'

/** A queue of packets. Packet 0 is the oldest; `at` gives its index in the columns. */
export class TxPackets {
  /** Number of packets. */
  count = 0
  /** Slots of the packet, extra infos included: 1 or more. */
  readonly slots: Uint16Array
  /** Size that the packet's first slot says, in bytes. */
  readonly size: Uint16Array
  /** Flags of the packet's first slot: bits of NETTXF. */
  readonly flags: Uint16Array
  /** A `Gso`, and with one the payload of a segment, in bytes. */
  readonly gso: Uint8Array
  readonly gsoSize: Uint16Array
  /** 1 for a packet with a frame, 0 for one that is only answered. */
  readonly frame: Uint8Array
  /** The NETIF_RSP of all its parts. */
  readonly status: Int8Array
  readonly #mask: number
  #head = 0

  /** @param capacity most packets: a power of two */
  constructor(capacity: number) {
    this.#mask = capacity - 1
    this.slots = new Uint16Array(capacity)
    this.size = new Uint16Array(capacity)
    this.flags = new Uint16Array(capacity)
    this.gso = new Uint8Array(capacity)
    this.gsoSize = new Uint16Array(capacity)
    this.frame = new Uint8Array(capacity)
    this.status = new Int8Array(capacity)
  }

  /** Index in the columns of packet `i`, 0..count; `count` is the next one to be filled in. */
  at(i: number): number {
    return (this.#head + i) & this.#mask
  }

  /**
   * Units of work of a packet: see `GuestTurn`. A frame that its link doesn't take whole is split,
   * which takes one for each segment.
   */
  work(at: number, { gso4, gso6 }: Offloads): number {
    const gso = this.gso[at]
    const isTaken = gso === Gso.TCPV4 ? gso4 : gso === Gso.TCPV6 && gso6
    // A packet without a frame may have any GSO size, 0 too.
    const isSplit = this.frame[at] === 1 && gso !== Gso.NONE && !isTaken
    const segments = isSplit ? Math.ceil((this.size[at] ?? 0) / (this.gsoSize[at] ?? 1)) : 0
    return Math.min(1 + (this.slots[at] ?? 0) + segments, TURN)
  }

  /** Makes a packet one that is only answered. */
  refuse(at: number, status: number): void {
    this.frame[at] = 0
    this.status[at] = status
  }

  /** Removes the oldest packets. */
  shift(packets: number): void {
    this.#head = (this.#head + packets) & this.#mask
    this.count -= packets
  }
}
