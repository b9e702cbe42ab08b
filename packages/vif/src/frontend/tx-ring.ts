/** Sends frames on one queue's transmit ring. Follows xen/include/public/io/netif.h. */
import type { EventChannel } from '@xenkit/evtchn'
import { Checksum, type Frames, Gso, MAX_FRAME, MIN_FRAME } from '@xenkit/frames'
import { type GrantShare, PAGE_SIZE, RingProtocolError } from '@xenkit/hypervisor'
import type { FrontRing } from '@xenkit/ring'
import { NETIF_RSP, NETTXF, XEN_NETIF_EXTRA_TYPE, netif } from '@xenkit/wire'
import type { OpenedRing } from '@xenkit/xenbus'
import type { VifCounts } from './vif-counts.ts'

/** Parts of a `TxRing`. */
export interface TxRingParts {
  readonly opened: OpenedRing<FrontRing>
  /** Granted pages, one for each data slot in flight. */
  readonly pages: GrantShare
  /** The whole arena, which `pages` are part of. */
  readonly arena: Uint8Array
  /** Whether a frame may take several slots. */
  readonly sg: boolean
  /** Whether the backend takes each kind of GSO, by the value of `Gso`. */
  readonly gso: readonly boolean[]
  readonly counts: VifCounts
}

/** Data slots of the longest frame, and one for its extra info. */
const MAX_SLOTS = Math.ceil(MAX_FRAME / PAGE_SIZE) + 1

/** Use of a page: `FIRST` holds the first bytes of a frame, `NEXT` later ones. */
const FREE = 0
const FIRST = 1
const NEXT = 2

const { at } = netif.tx.request
const answer = netif.tx.response.at

/** Sends frames, and takes the backend's responses. */
export class TxRing {
  readonly channel: EventChannel
  readonly #ring: FrontRing
  readonly #pages: GrantShare
  readonly #arena: Uint8Array
  readonly #sg: boolean
  readonly #gso: readonly boolean[]
  readonly #counts: VifCounts
  readonly #ring16: Uint16Array
  readonly #ring32: Uint32Array
  readonly #image16: Int16Array
  /** Use of each page. A slot's id is the number of its page. */
  readonly #use: Uint8Array
  /** A stack of free pages. */
  readonly #free: Uint16Array
  #freePages: number
  /** Extra infos in flight: the backend answers each with a response that has no id. */
  #extras = 0

  constructor({ opened: { ring, channel }, pages, arena, sg, gso, counts }: TxRingParts) {
    const count = pages.grefs.length
    this.channel = channel
    this.#ring = ring
    this.#pages = pages
    this.#arena = arena
    this.#sg = sg
    this.#gso = gso
    this.#counts = counts
    this.#ring16 = new Uint16Array(ring.bytes.buffer, ring.bytes.byteOffset, PAGE_SIZE / 2)
    this.#ring32 = new Uint32Array(ring.bytes.buffer, ring.bytes.byteOffset, PAGE_SIZE / 4)
    this.#image16 = new Int16Array(ring.image)
    this.#use = new Uint8Array(count)
    this.#free = Uint16Array.from({ length: count }, (_, i) => count - 1 - i)
    this.#freePages = count
  }

  /** Whether a frame of any length can be sent now. */
  get hasRoom(): boolean {
    return this.#fits(MAX_SLOTS - 1, MAX_SLOTS)
  }

  /**
   * Sends frames in order, until one finds no free slots. Frames that the backend doesn't take are
   * dropped and counted.
   * @param from index of the first frame to send
   * @returns index of the first frame that was neither sent nor dropped
   */
  send(frames: Frames, from: number): number {
    let i = from
    for (; i < frames.count; i++) {
      const length = frames.length[i] ?? 0
      const gso = frames.gso[i] ?? Gso.NONE
      if (!this.#takes(length, gso)) {
        this.#counts.refused++
        continue
      }
      const pages = Math.ceil(length / PAGE_SIZE)
      const slots = gso === Gso.NONE ? pages : pages + 1
      if (!this.#fits(pages, slots)) {
        this.drain()
        if (!this.#fits(pages, slots)) break
      }
      this.#put(frames, i)
    }
    this.#publish()
    return i
  }

  /**
   * Adds an address to the backend's multicast filter, or removes it.
   * @param extra MCAST_ADD or MCAST_DEL
   * @returns false if there is no free slot
   */
  sendMulticast(extra: number, mac: Uint8Array): boolean {
    this.drain()
    if (!this.#fits(1, 2)) return false
    const page = this.#takePage(FIRST)
    this.#arena.fill(0, this.#offset(page), this.#offset(page) + MIN_FRAME)
    this.#request(page, MIN_FRAME, NETTXF.extra_info)
    const word = this.#extra(extra)
    for (let i = 0; i < 3; i++) {
      this.#ring16[word + 1 + i] = (mac[2 * i] ?? 0) | ((mac[2 * i + 1] ?? 0) << 8)
    }
    this.#publish()
    return true
  }

  /**
   * Takes all responses.
   * @throws RingProtocolError for a response to a request that isn't in flight
   */
  drain(): void {
    const ring = this.#ring
    for (let count = ring.drain(ring.size); count > 0; count = ring.drain(ring.size)) {
      for (let i = 0; i < count; i++) this.#answered(ring.messageAt(i) >> 1)
    }
  }

  /** Asks for an event with the next response. @returns true if there are responses already */
  finalCheck(): boolean {
    return this.#ring.finalCheck()
  }

  #takes(length: number, gso: number): boolean {
    const most = this.#sg ? MAX_FRAME : PAGE_SIZE
    return length >= MIN_FRAME && length <= most && (gso === Gso.NONE || this.#gso[gso] === true)
  }

  #fits(pages: number, slots: number): boolean {
    return pages <= this.#freePages && slots <= this.#ring.free
  }

  #put(frames: Frames, i: number): void {
    const length = frames.length[i] ?? 0
    const start = frames.start[i] ?? 0
    const gso = frames.gso[i] ?? Gso.NONE
    const checksum = frames.checksum[i]
    let flags = gso === Gso.NONE ? 0 : NETTXF.extra_info
    if (checksum === Checksum.BLANK) flags |= NETTXF.csum_blank | NETTXF.data_validated
    else if (checksum === Checksum.VERIFIED) flags |= NETTXF.data_validated
    for (let sent = 0; sent < length; sent += PAGE_SIZE) {
      const part = Math.min(PAGE_SIZE, length - sent)
      const page = this.#takePage(sent === 0 ? FIRST : NEXT)
      this.#copy(frames.memory, start + sent, this.#offset(page), part)
      const more = sent + part < length ? NETTXF.more_data : 0
      // The first slot holds the length of the whole frame.
      this.#request(page, sent === 0 ? length : part, (sent === 0 ? flags : 0) | more)
      if (sent === 0 && gso !== Gso.NONE) {
        const word = this.#extra(XEN_NETIF_EXTRA_TYPE.GSO)
        this.#ring16[word + 1] = frames.gsoSize[i] ?? 0
        this.#ring16[word + 2] = gso
      }
    }
    this.#counts.sentFrames++
    this.#counts.sentBytes += length
  }

  #copy(memory: Uint8Array, start: number, to: number, length: number): void {
    const arena = this.#arena
    if (memory.buffer === arena.buffer) {
      const from = memory.byteOffset + start
      arena.copyWithin(to, from, from + length)
    } else arena.set(memory.subarray(start, start + length), to)
  }

  #request(page: number, size: number, flags: number): void {
    const base = this.#ring.reserveRequest()
    this.#ring32[(base + at.gref) >> 2] = this.#pages.grefs[page] ?? 0
    this.#ring16[(base + at.offset) >> 1] = 0
    this.#ring16[(base + at.flags) >> 1] = flags
    this.#ring16[(base + at.id) >> 1] = page
    this.#ring16[(base + at.size) >> 1] = size
  }

  /** Writes an extra info of zeros. @returns its place in the ring, in units of 2 bytes */
  #extra(type: number): number {
    const word = this.#ring.reserveRequest() >> 1
    this.#ring16.fill(0, word, word + netif.tx.slotSize / 2)
    this.#ring16[word] = type
    this.#extras++
    return word
  }

  #publish(): void {
    if (this.#ring.publish()) this.channel.notify()
  }

  #takePage(use: number): number {
    const page = this.#free[--this.#freePages] ?? 0
    this.#use[page] = use
    return page
  }

  /** Byte offset of a page within the arena. */
  #offset(page: number): number {
    return this.#pages.byteOffset + page * PAGE_SIZE
  }

  #answered(word: number): void {
    const status = this.#image16[word + answer.status / 2] ?? 0
    if (status === NETIF_RSP.NULL) {
      if (this.#extras-- === 0) this.#refuse('has no id, and no extra info is in flight')
      return
    }
    const page = (this.#image16[word + answer.id / 2] ?? 0) & 0xffff
    const use = this.#use[page] ?? FREE
    if (use === FREE) this.#refuse(`has id ${page}, which isn't in flight`)
    this.#use[page] = FREE
    this.#free[this.#freePages++] = page
    if (use !== FIRST || status === NETIF_RSP.OKAY) return
    if (status === NETIF_RSP.DROPPED) this.#counts.sendDropped++
    else this.#counts.sendErrors++
  }

  #refuse(what: string): never {
    const indices = this.#ring.indices()
    throw new RingProtocolError(`a response of the transmit ring ${what}`, { indices })
  }
}
