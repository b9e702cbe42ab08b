/**
 * Assembles the slots of a transmit ring into whole packets, by the rules of Linux's netback
 * (netback.c). Each slot is decoded from its private copy, once.
 *
 * A packet's first slot says the size of the whole packet. Extra infos follow it directly, then the
 * other parts, which say their own sizes. What the guest does wrong has one of two effects. The
 * packet is answered with an error; or the ring can't be trusted any more, and the card is closed.
 *
 * One rule differs: netback wants an Ethernet header in the first part, and we only in the packet.
 * Packets are copied into contiguous memory before they are looked at, so parts don't matter.
 */
import { Gso, MIN_FRAME } from '@xenkit/frames'
import { PAGE_SIZE, RingProtocolError } from '@xenkit/hypervisor'
import type { BackRing } from '@xenkit/ring'
import {
  NETIF_RSP,
  NETTXF,
  XEN_NETIF_EXTRA_FLAG,
  XEN_NETIF_EXTRA_TYPE,
  XEN_NETIF_NR_SLOTS_MIN,
  netif,
} from '@xenkit/wire'
import type { MulticastFilter } from './multicast-filter.ts'
import type { TxPackets } from './tx-packets.ts'
import type { TxSlots } from './tx-slots.ts'

/**
 * Most parts after the first one. A packet with more is answered with an error. With more than
 * PARTS_FATAL, the guest is taken to be malicious. Both as in netback.
 */
const PARTS_MAX = XEN_NETIF_NR_SLOTS_MIN
const PARTS_FATAL = 20

/** Largest type of an extra info. Larger ones are fatal, as in netback. */
const LAST_EXTRA_TYPE = XEN_NETIF_EXTRA_TYPE.XDP

/** Offsets of the fields in a slot, in bytes. */
const at = netif.tx.request.at
const extraAt = netif.extraInfo.at
const GSO_SIZE = extraAt.u + netif.gso.at.size
const GSO_TYPE = extraAt.u + netif.gso.at.type
const ADDRESS = extraAt.u + netif.mcast.at.addr
const ADDRESS_BYTES = 6

/** What the next slot has to be. */
const Expected = { FIRST: 0, EXTRA: 1, PART: 2 } as const
type Expected = (typeof Expected)[keyof typeof Expected]

export interface TxAssemblerParts {
  readonly ring: BackRing
  readonly slots: TxSlots
  /** Takes the assembled packets: has room for one in each row of `slots`. */
  readonly packets: TxPackets
  readonly filter: MulticastFilter
  /** GSO types that the guest was offered. */
  readonly offered: { readonly gso4: boolean; readonly gso6: boolean }
}

export class TxAssembler {
  /** Why the ring can't be trusted any more. Slots after that are ignored. */
  broken: RingProtocolError | undefined
  readonly #p: TxAssemblerParts
  readonly #image8: Uint8Array
  readonly #image16: Uint16Array
  readonly #image32: Uint32Array
  /** Index of the slot that is decoded. */
  #index: number
  #expected: Expected = Expected.FIRST
  // The packet that is being assembled. Its columns are those of packet `count`.
  #packet = 0
  #firstRow = 0
  #firstIndex = 0
  /** Parts after the first one. */
  #parts = 0
  /** Bytes that no part has yet: in the end, those of the first part. */
  #left = 0
  /** It is answered with an error. */
  #refused = false
  #hasGso = false
  // Multicast addresses of its extra infos: the last of each kind counts.
  #adds = false
  #removes = false
  readonly #added = new Uint8Array(ADDRESS_BYTES)
  readonly #removed = new Uint8Array(ADDRESS_BYTES)

  constructor(parts: TxAssemblerParts) {
    const { image, answered } = parts.ring
    this.#p = parts
    this.#image8 = new Uint8Array(image)
    this.#image16 = new Uint16Array(image)
    this.#image32 = new Uint32Array(image)
    this.#index = (answered - 1) | 0
  }

  /** Decodes the next slot, at `imageOffset` of the ring's image, into a row. */
  decode(row: number, imageOffset: number): void {
    const { slots } = this.#p
    const word = imageOffset >> 1
    slots.gref[row] = this.#image32[(imageOffset + at.gref) >> 2] ?? 0
    slots.offset[row] = this.#image16[word + at.offset / 2] ?? 0
    slots.flags[row] = this.#image16[word + at.flags / 2] ?? 0
    slots.size[row] = this.#image16[word + at.size / 2] ?? 0
    const isExtra = this.#expected === Expected.EXTRA
    slots.extra[row] = isExtra ? 1 : 0
    // An extra info has no id: what lies there must not be taken for one.
    slots.id[row] = isExtra ? 0 : (this.#image16[word + at.id / 2] ?? 0)
    this.#index = (this.#index + 1) | 0
    if (this.broken) return
    if (this.#expected === Expected.FIRST) this.#takeFirst(row)
    else if (this.#expected === Expected.EXTRA) this.#takeExtra(imageOffset)
    else this.#takePart(row)
  }

  /** The guest has sent no more slots, or can't: that breaks the ring if a packet is incomplete. */
  ringEmpty(): void {
    if (this.broken || this.#expected === Expected.FIRST) return
    const missing = this.#expected === Expected.EXTRA ? 'an extra info' : 'a part of its packet'
    this.#break('flags', `"flags" say that ${missing} follows, but no slot does`)
  }

  #takeFirst(row: number): void {
    const { slots, packets } = this.#p
    const packet = packets.at(packets.count)
    const flags = slots.flags[row] ?? 0
    const size = slots.size[row] ?? 0
    this.#packet = packet
    this.#firstRow = row
    this.#firstIndex = this.#index
    this.#parts = 0
    this.#left = size
    this.#refused = this.#hasGso = this.#adds = this.#removes = false
    packets.slots[packet] = 1
    packets.size[packet] = size
    packets.flags[packet] = flags
    packets.gso[packet] = Gso.NONE
    if (flags & NETTXF.extra_info) this.#expected = Expected.EXTRA
    else if (flags & NETTXF.more_data) this.#expected = Expected.PART
    else this.#complete()
  }

  #takeExtra(imageOffset: number): void {
    const { packets } = this.#p
    const packet = this.#packet
    packets.slots[packet] = (packets.slots[packet] ?? 0) + 1
    const type = this.#image8[imageOffset + extraAt.type] ?? 0
    if (type === XEN_NETIF_EXTRA_TYPE.NONE || type > LAST_EXTRA_TYPE) {
      this.#break('type', `"type" of an extra info expected 1..${LAST_EXTRA_TYPE}, got ${type}`)
      return
    }
    if (type === XEN_NETIF_EXTRA_TYPE.GSO) {
      this.#hasGso = true
      packets.gso[packet] = this.#image8[imageOffset + GSO_TYPE] ?? 0
      packets.gsoSize[packet] = this.#image16[(imageOffset + GSO_SIZE) >> 1] ?? 0
    } else if (type === XEN_NETIF_EXTRA_TYPE.MCAST_ADD) {
      this.#adds = true
      this.#copyAddress(imageOffset, this.#added)
    } else if (type === XEN_NETIF_EXTRA_TYPE.MCAST_DEL) {
      this.#removes = true
      this.#copyAddress(imageOffset, this.#removed)
    }
    const flags = this.#image8[imageOffset + extraAt.flags] ?? 0
    if ((flags & XEN_NETIF_EXTRA_FLAG.MORE) === 0) this.#endExtras()
  }

  #endExtras(): void {
    const { packets, filter } = this.#p
    if (this.#adds || this.#removes) {
      // The packet is a dummy, and ends here whatever its flags say.
      const done = this.#adds ? filter.add(this.#added, 0) : true
      if (!this.#adds) filter.remove(this.#removed, 0)
      this.#queue(0, done ? NETIF_RSP.OKAY : NETIF_RSP.ERROR)
      return
    }
    const flags = packets.flags[this.#packet] ?? 0
    if (flags & NETTXF.more_data) this.#expected = Expected.PART
    else this.#complete()
  }

  #takePart(row: number): void {
    const { slots, packets } = this.#p
    const packet = this.#packet
    const size = slots.size[row] ?? 0
    const offset = slots.offset[row] ?? 0
    packets.slots[packet] = (packets.slots[packet] ?? 0) + 1
    this.#parts++
    if (this.#parts > PARTS_FATAL) {
      this.#break('flags', `the packet has more than ${1 + PARTS_FATAL} parts`)
      return
    }
    if (offset + size > PAGE_SIZE) {
      this.#breakPage(offset, size)
      return
    }
    // Guests that send 64 KiB or more have a total that overflowed: this is no reason to close
    // them.
    if (this.#parts > PARTS_MAX || size > this.#left) this.#refused = true
    this.#left -= size
    if (((slots.flags[row] ?? 0) & NETTXF.more_data) === 0) this.#complete()
  }

  /** All slots of the packet are there. */
  #complete(): void {
    const { slots, packets } = this.#p
    const size = packets.size[this.#packet] ?? 0
    if (this.#refused || size < MIN_FRAME) {
      this.#queue(0, NETIF_RSP.ERROR)
      return
    }
    const offset = slots.offset[this.#firstRow] ?? 0
    slots.size[this.#firstRow] = this.#left
    if (offset + this.#left > PAGE_SIZE) this.#breakPage(offset, this.#left, this.#firstIndex)
    else if (!this.#hasGso || this.#isGsoOffered()) this.#queue(1, NETIF_RSP.OKAY)
  }

  /** Breaks the ring unless the packet's GSO is one that the guest was offered. */
  #isGsoOffered(): boolean {
    const { packets, offered } = this.#p
    const type = packets.gso[this.#packet] ?? 0
    if (packets.gsoSize[this.#packet] === 0) {
      this.#break('gso.size', '"size" of a GSO extra info expected 1..65535, got 0')
      return false
    }
    if (type === Gso.TCPV4 ? offered.gso4 : type === Gso.TCPV6 && offered.gso6) return true
    this.#break('gso.type', `"type" of a GSO extra info expected one that is offered, got ${type}`)
    return false
  }

  /** Queues the packet. @param frame 1 if it has a frame to be sent, else 0 */
  #queue(frame: number, status: number): void {
    const { packets } = this.#p
    packets.frame[this.#packet] = frame
    packets.status[this.#packet] = status
    packets.count++
    this.#expected = Expected.FIRST
  }

  #copyAddress(imageOffset: number, to: Uint8Array): void {
    for (let i = 0; i < ADDRESS_BYTES; i++) to[i] = this.#image8[imageOffset + ADDRESS + i] ?? 0
  }

  #breakPage(offset: number, size: number, index = this.#index): void {
    const text = `"offset" ${offset} and "size" ${size} of a part pass its page's end, ${PAGE_SIZE}`
    this.#break('offset', text, index)
  }

  /** Ends the trust in the ring. @param index the slot that is to blame; default: the last one */
  #break(field: string, text: string, index = this.#index): void {
    const { ring } = this.#p
    const request = index >>> 0
    const slot = request & (ring.size - 1)
    this.broken = new RingProtocolError(`transmit request ${request} in slot ${slot}: ${text}`, {
      request,
      slot,
      field,
      indices: ring.indices(),
    })
  }
}
