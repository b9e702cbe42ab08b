/**
 * Receives frames from one queue's receive ring. Follows xen/include/public/io/netif.h.
 *
 * Each frame is copied out of the granted pages, which are posted again immediately: the backend
 * may write to a page as long as it is granted, so a frame is checked only in private memory.
 */
import type { EventChannel } from '@xenkit/evtchn'
import { Checksum, Frames, Gso, Headers, MAX_FRAME, MIN_FRAME } from '@xenkit/frames'
import { type GrantShare, PAGE_SIZE, type Pages, RingProtocolError } from '@xenkit/hypervisor'
import type { FrontRing } from '@xenkit/ring'
import {
  NETRXF,
  RING_OFFSET,
  XEN_NETIF_EXTRA_FLAG,
  XEN_NETIF_EXTRA_TYPE,
  netif,
} from '@xenkit/wire'
import type { OpenedRing } from '@xenkit/xenbus'
import type { VifCounts } from './vif-counts.ts'

/** Parts of an `RxRing`. */
export interface RxRingParts {
  readonly opened: OpenedRing<FrontRing>
  /** Granted pages, which the backend copies frames into. */
  readonly pages: GrantShare
  /** Private pages, INBOX_PAGES of them, which frames are copied to. */
  readonly inbox: Pages
  /** The whole arena, which `pages` and `inbox` are part of. */
  readonly arena: Uint8Array
  readonly counts: VifCounts
  /** Called with each batch. The batch is reused when the call returns. */
  readonly received: (frames: Frames) => void
}

/** Pages of the memory of a batch, 256 KiB: three of the longest frames at least. */
export const INBOX_PAGES = 64

/** Room that a frame may need: headroom may fill all of its first slot. */
const ROOM = MAX_FRAME + PAGE_SIZE

/** Most frames of a batch: as many as a ring has slots. */
const BATCH = 256

const { at } = netif.rx.response
const extra = netif.extraInfo.at
const { slotSize } = netif.rx

/** Receives frames, and posts the pages again. */
export class RxRing {
  readonly channel: EventChannel
  readonly #ring: FrontRing
  readonly #pages: GrantShare
  readonly #inbox: Pages
  readonly #arena: Uint8Array
  readonly #counts: VifCounts
  readonly #received: (frames: Frames) => void
  readonly #ring16: Uint16Array
  readonly #ring32: Uint32Array
  readonly #image8: Uint8Array
  readonly #image16: Int16Array
  /** Page that was posted in each slot: a response is in the slot of its request. */
  readonly #posted: Uint16Array
  readonly #frames = new Frames(BATCH)
  readonly #headers = new Headers()

  // The frame that is being received. Its slots may come in several batches of responses.
  #moreData = false
  #moreExtras = false
  /** Its first byte within the arena. */
  #start: number
  #length = 0
  /** Flags of its first slot. */
  #flags = 0
  #gso: number = Gso.NONE
  #gsoSize = 0
  /** Bytes that the backend left free at the start of each slot's data. */
  #headroom = 0
  #failed = false

  constructor(o: RxRingParts) {
    const { ring, channel } = o.opened
    this.channel = channel
    this.#ring = ring
    this.#pages = o.pages
    this.#inbox = o.inbox
    this.#arena = o.arena
    this.#counts = o.counts
    this.#received = o.received
    this.#ring16 = new Uint16Array(ring.bytes.buffer, ring.bytes.byteOffset, PAGE_SIZE / 2)
    this.#ring32 = new Uint32Array(ring.bytes.buffer, ring.bytes.byteOffset, PAGE_SIZE / 4)
    this.#image8 = new Uint8Array(ring.image)
    this.#image16 = new Int16Array(ring.image)
    this.#posted = new Uint16Array(ring.size)
    this.#start = o.inbox.byteOffset
    this.#frames.reset(o.arena)
    for (let page = 0; page < o.pages.grefs.length; page++) this.#post(page)
    // No notification: the backend isn't bound yet, and has an event pending when it is.
    ring.publish()
  }

  /**
   * Takes all responses, and passes on the frames.
   * @throws RingProtocolError for a response that no correct backend sends
   * @throws any error of `received`
   */
  drain(): void {
    const ring = this.#ring
    for (let count = ring.drain(ring.size); count > 0; count = ring.drain(ring.size)) {
      for (let i = 0; i < count; i++) this.#take(ring.messageAt(i))
      // The pages are posted before the frames are passed on: the backend copies meanwhile.
      if (ring.publish()) this.channel.notify()
      this.#flush()
    }
  }

  /** Asks for an event with the next response. @returns true if there are responses already */
  finalCheck(): boolean {
    return this.#ring.finalCheck()
  }

  #post(page: number): void {
    const base = this.#ring.reserveRequest()
    this.#ring16[(base + netif.rx.request.at.id) >> 1] = page
    this.#ring16[(base + netif.rx.request.at.pad) >> 1] = 0
    this.#ring32[(base + netif.rx.request.at.gref) >> 2] = this.#pages.grefs[page] ?? 0
    this.#posted[(base - RING_OFFSET) / slotSize] = page
  }

  /** Takes one response, which is at byte offset `base` of the image. */
  #take(base: number): void {
    const page = this.#posted[(base - RING_OFFSET) / slotSize] ?? 0
    if (this.#moreExtras) this.#takeExtra(base)
    else this.#takeData(base >> 1, page)
    this.#post(page)
    if (!this.#moreData && !this.#moreExtras) this.#finish()
  }

  /** @param word place of the response in the image, in units of 2 bytes */
  #takeData(word: number, page: number): void {
    const id = (this.#image16[word + at.id / 2] ?? 0) & 0xffff
    if (id !== page) this.#refuse(`has id ${id}, expected ${page}, which was posted in its slot`)
    const flags = this.#image16[word + at.flags / 2] ?? 0
    const first = !this.#moreData
    this.#moreData = (flags & NETRXF.more_data) !== 0
    if (first) this.#open(flags)
    const status = this.#image16[word + at.status / 2] ?? 0
    // The extra info with the headroom comes after the first slot.
    const skipped = first ? 0 : this.#headroom
    const offset = ((this.#image16[word + at.offset / 2] ?? 0) & 0xffff) + skipped
    const length = status - skipped
    if (length < 0 || offset + length > PAGE_SIZE || this.#length + length > MAX_FRAME) {
      this.#failed = true
    } else if (!this.#failed) {
      const from = this.#pages.byteOffset + page * PAGE_SIZE + offset
      this.#arena.copyWithin(this.#start + this.#length, from, from + length)
      this.#length += length
    }
  }

  /** Starts a frame. */
  #open(flags: number): void {
    const inboxEnd = this.#inbox.byteOffset + this.#inbox.bytes.length
    if (this.#frames.count === BATCH || this.#start + ROOM > inboxEnd) this.#flush()
    this.#flags = flags
    this.#moreExtras = (flags & NETRXF.extra_info) !== 0
    this.#length = 0
    this.#gso = Gso.NONE
    this.#headroom = 0
    this.#failed = false
  }

  #takeExtra(base: number): void {
    const type = this.#image8[base + extra.type] ?? 0
    this.#moreExtras = ((this.#image8[base + extra.flags] ?? 0) & XEN_NETIF_EXTRA_FLAG.MORE) !== 0
    const word = (base + extra.u) >> 1
    if (type === XEN_NETIF_EXTRA_TYPE.GSO) {
      this.#gsoSize = (this.#image16[word] ?? 0) & 0xffff
      this.#gso = (this.#image16[word + 1] ?? 0) & 0xff
    } else if (type === XEN_NETIF_EXTRA_TYPE.XDP && this.#headroom === 0) {
      const headroom = (this.#image16[word] ?? 0) & 0xffff
      if (headroom > this.#length) this.#failed = true
      else {
        this.#headroom = headroom
        this.#start += headroom
        this.#length -= headroom
      }
    }
  }

  /** Adds the frame that was received whole to the batch. */
  #finish(): void {
    const length = this.#length
    const start = this.#start
    this.#length = 0
    const isWhole = !this.#failed && length >= MIN_FRAME && length <= MAX_FRAME
    if (!isWhole || !this.#describe(start, length)) {
      this.#counts.receiveErrors++
      return
    }
    this.#frames.start[this.#frames.count] = start
    this.#frames.length[this.#frames.count] = length
    this.#frames.count++
    this.#start = start + length
    this.#counts.receivedFrames++
    this.#counts.receivedBytes += length
  }

  /** Fills in the frame's columns for offloads. @returns false if it is malformed */
  #describe(start: number, length: number): boolean {
    const frames = this.#frames
    const i = frames.count
    const gso = this.#gso
    const blank = (this.#flags & NETRXF.csum_blank) !== 0 || gso !== Gso.NONE
    const verified = (this.#flags & NETRXF.data_validated) !== 0
    frames.gso[i] = gso
    frames.checksum[i] = verified ? Checksum.VERIFIED : Checksum.COMPLETE
    if (!blank) return true
    const headers = this.#headers
    const isParsed = headers.parse(this.#arena, start, length, gso !== Gso.NONE)
    if (!isParsed || headers.checksum === 0) return false
    frames.checksum[i] = Checksum.BLANK
    frames.checksumStart[i] = headers.l4
    frames.checksumOffset[i] = headers.checksum - headers.l4
    frames.gsoSize[i] = this.#gsoSize
    frames.headers[i] = headers.length
    return gso === Gso.NONE || (gso <= Gso.TCPV6 && this.#gsoSize > 0)
  }

  /** Passes the batch on, and starts another at the inbox's first byte. */
  #flush(): void {
    const frames = this.#frames
    const first = this.#inbox.byteOffset
    if (frames.count > 0) {
      this.#received(frames)
      // The listener may have reset the batch to another memory.
      frames.reset(this.#arena)
    }
    // The rest of an unfinished frame comes with later responses.
    this.#arena.copyWithin(first, this.#start, this.#start + this.#length)
    this.#start = first
  }

  #refuse(what: string): never {
    const indices = this.#ring.indices()
    throw new RingProtocolError(`a response of the receive ring ${what}`, { indices })
  }
}
