/**
 * Packets in the format of the receive ring. A packet takes the guest's next buffers in this order:
 * its first part, an extra info in each of the following buffers, then its other parts. Follows
 * xen/include/public/io/netif.h, and Linux's netback where the header is silent.
 *
 * Packets are written to private columns and to the ring's response slots first. Then one
 * grant-copy call moves the data of all of them, and one store publishes all responses.
 */
import type { EventChannel } from '@xenkit/evtchn'
import { Checksum, type Frames, Gso, MAX_FRAME, MIN_FRAME, type Offloads } from '@xenkit/frames'
import type { GrantCopier } from '@xenkit/grant'
import { PAGE_SIZE } from '@xenkit/hypervisor'
import type { BackRing } from '@xenkit/ring'
import {
  NETIF_RSP,
  NETRXF,
  netif,
  XEN_NETIF_CTRL_HASH_ALGORITHM,
  XEN_NETIF_EXTRA_FLAG,
  XEN_NETIF_EXTRA_TYPE,
  XEN_NETIF_NR_SLOTS_MIN,
} from '@xenkit/wire'
import type { FrontendFeatures } from '../nodes.ts'
import { RxBuffers } from './rx-buffers.ts'
import type { StaticGrefs } from './static-grefs.ts'
import { VifCount, type VifCounters } from './stats.ts'

/**
 * Most buffers of a packet, extra infos included. Linux's netfront drops packets with more, and
 * leaked them before commit 93ccaf1c26e2. A packet of 65,535 bytes takes 16, a GSO extra info and a
 * hash.
 */
const MAX_BUFFERS = XEN_NETIF_NR_SLOTS_MIN

/**
 * Least bytes in the first of several buffers. They hold the headers up to TCP's (XSA-522):
 * Linux's netfront looks for headers in so many bytes. Only a large headroom leaves less room.
 */
const MIN_FIRST = 256

/** In `FrameHashes.type`: the frame has no hash. */
export const NO_HASH = 0xff

/** Toeplitz hashes of a batch's frames, for a guest that has set up hashing by the control ring. */
export interface FrameHashes {
  /** Number of the bit of XEN_NETIF_CTRL_HASH_TYPE, 0..3, or NO_HASH. */
  readonly type: Uint8Array
  readonly value: Uint32Array
}

/** Incomplete frames that a guest takes. */
export function rxOffloads(features: FrontendFeatures): Offloads {
  const { sg, checksum4, checksum6, gso4, gso6, xdpHeadroom } = features
  // With headroom, the largest segments don't fit in MAX_BUFFERS. Linux's netfront drops what takes
  // several buffers then.
  const large = sg && xdpHeadroom === 0
  return {
    checksum4,
    checksum6,
    gso4: large && checksum4 && gso4,
    gso6: large && checksum6 && gso6,
    // Linux's netfront drops tagged frames with a blank checksum, and netback never sends any.
    tagged: false,
  }
}

/** Parts of `RxPackets`. */
export interface RxPacketsParts {
  readonly ring: BackRing
  readonly channel: EventChannel
  /** Has room for as many operations as the ring has slots. */
  readonly copier: GrantCopier
  /** Buffers that stay mapped: no grant copy is needed for them. Default: none. */
  readonly staticGrefs?: Pick<StaticGrefs, 'lookup'> | undefined
  /** The whole arena, `new Uint8Array(hv.arena.buffer)`. */
  readonly memory: Uint8Array
  readonly features: FrontendFeatures
  readonly counters: VifCounters
}

/** Writes packets to one receive ring. */
export class RxPackets {
  readonly buffers: RxBuffers
  readonly #p: RxPacketsParts
  #headroom = 0
  #offloads: Offloads
  // Responses in the ring's pages. A response is written as two words: id and offset, then flags
  // and status. An extra info is as long.
  readonly #words: Uint32Array
  readonly #statuses: Int16Array
  /** Number of packets since the last `deliver`, and their bytes. */
  #count = 0
  #bytes = 0
  /** Bytes of each packet. */
  readonly #length: Uint16Array
  /** For each copy operation: its packet, and its response's place in `#statuses`. */
  readonly #packet: Uint16Array
  readonly #status: Uint16Array

  constructor(parts: RxPacketsParts) {
    const { ring, features } = parts
    const { buffer, byteOffset, byteLength } = ring.bytes
    this.#p = parts
    this.#offloads = rxOffloads(features)
    this.headroom = features.xdpHeadroom
    this.buffers = new RxBuffers(ring)
    this.#words = new Uint32Array(buffer, byteOffset, byteLength / 4)
    this.#statuses = new Int16Array(buffer, byteOffset, byteLength / 2)
    this.#length = new Uint16Array(ring.size)
    this.#packet = new Uint16Array(ring.size)
    this.#status = new Uint16Array(ring.size)
  }

  /** Bytes to leave free before each packet, 0..32767. */
  set headroom(bytes: number) {
    this.#headroom = bytes
    this.#offloads = rxOffloads({ ...this.#p.features, xdpHeadroom: bytes })
  }

  /**
   * Returns how many buffers a frame takes, extra infos included; 0 if the guest can't take it in
   * any number of them.
   */
  buffersFor(frames: Frames, i: number, hashes?: FrameHashes): number {
    const length = frames.length[i] ?? 0
    const room = PAGE_SIZE - this.#headroom
    const end = (frames.start[i] ?? 0) + length
    if (length < MIN_FRAME || length > MAX_FRAME || end > frames.memory.length) return 0
    let buffers = 1
    if (length > room) {
      if (!this.#p.features.sg || room < MIN_FIRST) return 0
      buffers = Math.ceil(length / room)
    }
    if (frames.gso[i] !== Gso.NONE) {
      if (!this.#takesGso(frames, i)) return 0
      buffers++
    }
    if (this.#headroom > 0) buffers++
    if (hashes && hashes.type[i] !== NO_HASH) buffers++
    return buffers > MAX_BUFFERS ? 0 : buffers
  }

  /**
   * Puts a frame of the arena into as many buffers as `buffersFor` returns, which `buffers` has.
   * The frame must stay in place until `deliver`.
   */
  put(frames: Frames, i: number, hashes?: FrameHashes): void {
    const headroom = this.#headroom
    const length = frames.length[i] ?? 0
    const hasExtras =
      frames.gso[i] !== Gso.NONE || headroom > 0 || (hashes && hashes.type[i] !== NO_HASH)
    let flags = checksumFlags(frames.checksum[i] ?? 0) | (hasExtras ? NETRXF.extra_info : 0)
    let local = frames.memory.byteOffset + (frames.start[i] ?? 0)
    for (let left = length; left > 0;) {
      const size = Math.min(left, PAGE_SIZE - headroom)
      left -= size
      if (left > 0) flags |= NETRXF.more_data
      const { gref, id } = this.buffers
      // As netback does: the data's offset is 0, and its size includes the headroom.
      const response = this.#respond(id, flags | ((headroom + size) << 16))
      this.#copy(gref, size, local, response)
      local += size
      if (flags & NETRXF.extra_info) this.#putExtras(frames, i, hashes)
      flags = 0
    }
    this.#length[this.#count++] = length
    this.#bytes += length
  }

  /**
   * Copies the data of all packets put since the last call, and publishes their responses. A
   * response whose data couldn't be copied has an error.
   * @returns how many packets
   * @throws GrantError if the hypervisor refuses the whole call
   * @throws EvtchnError if the guest can't be notified
   */
  deliver(): number {
    const count = this.#count
    if (count === 0) return 0
    const { ring, channel, copier, counters } = this.#p
    try {
      if (copier.copyOut() > 0) this.#failCopies()
    } finally {
      copier.reset()
    }
    counters.add(VifCount.FRAMES_RECEIVED, count)
    counters.add(VifCount.BYTES_RECEIVED, this.#bytes)
    this.#count = this.#bytes = 0
    if (ring.publish()) channel.notify()
    return count
  }

  #takesGso(frames: Frames, i: number): boolean {
    const { gso4, gso6 } = this.#offloads
    const taken = frames.gso[i] === Gso.TCPV4 ? gso4 : frames.gso[i] === Gso.TCPV6 && gso6
    return taken && frames.checksum[i] === Checksum.BLANK && (frames.gsoSize[i] ?? 0) > 0
  }

  /**
   * Copies a part's data now, if the buffer stays mapped, or in `deliver`.
   * @param local the data's offset in the arena
   * @param response the response's place in `#words`
   */
  #copy(gref: number, size: number, local: number, response: number): void {
    const { copier, staticGrefs, memory } = this.#p
    const page = staticGrefs?.lookup(gref, true)
    if (page !== undefined) {
      memory.copyWithin(page + this.#headroom, local, local + size)
      return
    }
    const copy = copier.add(gref, this.#headroom, size, local)
    this.#packet[copy] = this.#count
    this.#status[copy] = 2 * response + netif.rx.response.at.status / 2
  }

  /** Puts a frame's extra infos into a buffer each, in the order of their types as netback does. */
  #putExtras(frames: Frames, i: number, hashes?: FrameHashes): void {
    const gso = frames.gso[i] ?? Gso.NONE
    const hashType = hashes?.type[i] ?? NO_HASH
    const headroom = this.#headroom
    const { GSO, HASH, XDP } = XEN_NETIF_EXTRA_TYPE
    const more = XEN_NETIF_EXTRA_FLAG.MORE << 8
    if (gso !== Gso.NONE) {
      // No XDP: a guest with headroom gets no segments, see `rxOffloads`.
      const follows = hashType !== NO_HASH ? more : 0
      this.#respond(GSO | follows | ((frames.gsoSize[i] ?? 0) << 16), gso)
    }
    if (hashType !== NO_HASH) {
      const algorithm = XEN_NETIF_CTRL_HASH_ALGORITHM.TOEPLITZ << 24
      const follows = headroom > 0 ? more : 0
      this.#respond(HASH | follows | (hashType << 16) | algorithm, hashes?.value[i] ?? 0)
    }
    if (headroom > 0) this.#respond(XDP | (headroom << 16), 0)
  }

  /**
   * Writes the oldest buffer's response, all 8 bytes, and removes the buffer.
   * @returns the response's place in `#words`
   */
  #respond(first: number, second: number): number {
    const at = this.#p.ring.reserveResponse() / 4
    this.#words[at] = first
    this.#words[at + 1] = second
    this.buffers.shift()
    return at
  }

  #failCopies(): void {
    const { copier, counters } = this.#p
    let failed = -1
    for (let copy = 0; copy < copier.count; copy++) {
      if (copier.status[copy] === 0) continue
      this.#statuses[this.#status[copy] ?? 0] = NETIF_RSP.ERROR
      const packet = this.#packet[copy] ?? 0
      if (packet === failed) continue
      failed = packet
      counters.add(VifCount.RECEIVE_ERRORS)
      counters.add(VifCount.FRAMES_RECEIVED, -1)
      counters.add(VifCount.BYTES_RECEIVED, -(this.#length[packet] ?? 0))
    }
  }
}

/** A blank checksum's data is validated: it never left the host's memory. */
function checksumFlags(checksum: number): number {
  if (checksum === Checksum.BLANK) return NETRXF.csum_blank | NETRXF.data_validated
  return checksum === Checksum.VERIFIED ? NETRXF.data_validated : 0
}
