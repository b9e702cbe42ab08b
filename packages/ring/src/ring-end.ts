/**
 * The common part of both ends of a ring. Follows xen/include/public/io/ring.h.
 *
 * Each end produces one kind of message and consumes the other, in the same slots. A backend is a
 * frontend with requests and responses swapped, except for two things: the index words that each
 * end owns, and how far the other end may be ahead. Requests may be a whole ring ahead of
 * responses; a response can't be ahead of its request.
 *
 * The other domain can write to the page at any time. This end's indices are in private fields and
 * are never read back. The other end's indices are read once per decision and checked before use.
 *
 * Indices are kept as the int32 that `Atomics.load` returns, because a u32 of 2^31 or more would be
 * a heap number. A distance between two indices is made a u32 by `>>> 0`.
 */
import { RingProtocolError, UINT32_MAX, expectInteger, type RingIndices } from '@xenkit/hypervisor'
import { RING_OFFSET, XEN_PAGE_SIZE, ringSlots, sring } from '@xenkit/wire'
import { RingImage } from './ring-image.ts'

/** The memory of a ring. */
export interface RingMemory {
  /** All pages of the ring, contiguous and page-aligned within their buffer. */
  readonly bytes: Uint8Array
  /** Bytes per slot, which holds a request or a response: a multiple of 4. */
  readonly slotSize: number
}

/** Indices of the ring's index words, in units of u32. */
const word = {
  req_prod: sring.at.req_prod / 4,
  req_event: sring.at.req_event / 4,
  rsp_prod: sring.at.rsp_prod / 4,
  rsp_event: sring.at.rsp_event / 4,
} as const

/** Names of one end of a ring, and of the index words that this end reads and writes. */
export interface RingSide {
  readonly name: 'back' | 'front'
  readonly produces: 'req_prod' | 'rsp_prod'
  readonly consumes: 'req_prod' | 'rsp_prod'
  /**
   * Word by which the other end asks this end for a notification: the index of the message to
   * notify of.
   */
  readonly heeds: 'req_event' | 'rsp_event'
  /** Word by which this end asks the other end for a notification. */
  readonly arms: 'req_event' | 'rsp_event'
  /** Names of this end's private indices, for error texts. */
  readonly producer: string
  readonly consumer: string
}

/** Reads an index word of a ring before an end is attached. */
export const readIndex = ({ bytes }: RingMemory, name: keyof typeof word): number =>
  Atomics.load(new Int32Array(bytes.buffer, bytes.byteOffset, RING_OFFSET / 4), word[name]) >>> 0

/** An end of a ring, as `BackRing` and `FrontRing` extend it. */
export abstract class RingEnd {
  /** All pages of the ring. */
  readonly bytes: Uint8Array
  /** Number of slots. */
  readonly size: number
  readonly slotSize: number
  /** Private copies of the messages of the last `drain`; `messageAt` returns their offsets. */
  readonly image: ArrayBuffer

  /** Next slot to produce into. Slots before it are reserved, perhaps not published yet. */
  protected producer: number
  /** Next slot to consume. */
  protected consumer: number
  /** Last value of this end's shared producer index. */
  #published: number
  /** Last checked value of the other end's producer index. */
  #seen: number
  /** Slot of the first message of the last `drain`. */
  #first = 0

  readonly #side: RingSide
  /**
   * Distance by which the other end's producer may be ahead of this end's: `size` for requests, 0
   * for responses.
   */
  readonly #lead: number
  readonly #words: Int32Array
  readonly #produces: number
  readonly #consumes: number
  readonly #heeds: number
  readonly #arms: number
  readonly #image: RingImage

  /** @param index initial value of both private indices */
  protected constructor(side: RingSide, { bytes, slotSize }: RingMemory, index: number) {
    const pages = bytes.byteLength / XEN_PAGE_SIZE
    if (!Number.isInteger(pages) || pages < 1) {
      throw new RangeError(
        `"bytes" expected whole pages of ${XEN_PAGE_SIZE}, got ${bytes.byteLength} bytes`,
      )
    }
    if (bytes.byteOffset % XEN_PAGE_SIZE !== 0) {
      throw new RangeError(
        `"bytes" expected at a page boundary of its buffer, got offset ${bytes.byteOffset}`,
      )
    }
    if (!Number.isInteger(slotSize) || slotSize < 4 || slotSize % 4 !== 0) {
      throw new RangeError(`"slotSize" expected a multiple of 4, got ${slotSize}`)
    }
    const size = ringSlots({ pages, slotSize })
    if (size === 0) {
      throw new RangeError(
        `"slotSize" expected at most ${bytes.byteLength - RING_OFFSET}, which is one slot, got ${slotSize}`,
      )
    }

    this.bytes = bytes
    this.slotSize = slotSize
    this.size = size
    this.#image = new RingImage(this)
    this.image = this.#image.buffer
    this.producer = this.consumer = this.#published = this.#seen = index | 0
    this.#side = side
    this.#lead = side.name === 'back' ? size : 0
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, RING_OFFSET / 4)
    this.#produces = word[side.produces]
    this.#consumes = word[side.consumes]
    this.#heeds = word[side.heeds]
    this.#arms = word[side.arms]
    this.#consumable()
  }

  /**
   * Copies messages that the other end has published, oldest first, into `image`. It reads the
   * other end's index at most once, and not at all if `max` messages are known already. Every slot
   * is read once.
   * @param max most messages to take, 0 or more
   * @returns how many were taken; 0 if there are none
   * @throws RangeError or TypeError for `max` out of range
   * @throws RingProtocolError if the other end's index was read and is where no correct peer can
   *   have moved it; nothing is taken
   */
  drain(max: number): number {
    expectInteger('max', max, 0, UINT32_MAX)
    // The index shares a cache line with words that the other end polls: each read of the index can
    // cost both ends some 100 ns.
    const known = (this.#seen - this.consumer) >>> 0
    const count = known >= max ? max : Math.min(this.#consumable(), max)
    if (count === 0) return 0
    this.#first = this.consumer & (this.size - 1)
    this.#image.copy(this.#first, count)
    this.consumer = (this.consumer + count) | 0
    return count
  }

  /**
   * Returns the offset in `image` of message `i`, 0 or more, of the last `drain`: a multiple of 4.
   */
  messageAt(i: number): number {
    return this.#slotAt(this.#first + i)
  }

  /**
   * Publishes the slots reserved since the last call, after the caller has written them.
   * @returns whether the other end wants to be notified
   */
  publish(): boolean {
    const old = this.#published
    const published = this.producer
    if (published === old) return false
    this.#published = published
    // The peer sees the messages /before/ the new index, and the new index /before/ this end reads
    // the event index: Atomics.store is a full barrier. With a plain store, the load below can pass
    // the store. A peer that arms its event in between is then never notified, and both sides sleep
    // (547 to 10 237 times in 2 million rounds on x86).
    Atomics.store(this.#words, this.#produces, published)
    const event = Atomics.load(this.#words, this.#heeds)
    return (published - event) >>> 0 < (published - old) >>> 0
  }

  /**
   * Asks to be notified of the next message, then checks once more. Call it when `drain` returned
   * 0, before waiting for an event.
   * @returns true if there are messages after all: drain again
   * @throws RingProtocolError as `drain` does
   */
  finalCheck(): boolean {
    if (this.#consumable() > 0) return true
    // The peer sees the new event index /before/ this end reads the producer index for the last
    // time. So either that read finds the message, or the publishing peer finds the event index
    // armed.
    Atomics.store(this.#words, this.#arms, (this.consumer + 1) | 0)
    return this.#consumable() > 0
  }

  /** Returns the ring's six indices. Each index in shared memory is read once. */
  indices(): RingIndices {
    const load = (name: keyof typeof word): number => Atomics.load(this.#words, word[name]) >>> 0
    return {
      reqProd: load('req_prod'),
      reqEvent: load('req_event'),
      rspProd: load('rsp_prod'),
      rspEvent: load('rsp_event'),
      producer: this.producer >>> 0,
      consumer: this.consumer >>> 0,
    }
  }

  toString(): string {
    return this.#describe(this.indices())
  }

  /**
   * Takes the next slot for a message of this end.
   * @returns the slot's offset in `bytes`
   */
  protected produce(): number {
    const at = this.#slotAt(this.producer)
    this.producer = (this.producer + 1) | 0
    return at
  }

  /** Returns the offset in `bytes` of the slot that a free-running index names. */
  #slotAt(index: number): number {
    return RING_OFFSET + (index & (this.size - 1)) * this.slotSize
  }

  /**
   * Returns how many messages of the other end wait to be consumed.
   * @throws RingProtocolError if the other end's index is impossible
   */
  #consumable(): number {
    const index = Atomics.load(this.#words, this.#consumes)
    const available = (index - this.consumer) >>> 0
    // An index that went backwards is far ahead modulo 2^32, so one comparison finds both errors.
    const most = (this.#published + this.#lead - this.consumer) >>> 0
    if (available > most) this.#refuse(available, most)
    this.#seen = index
    return available
  }

  #refuse(available: number, most: number): never {
    const { consumes, consumer } = this.#side
    const indices = this.indices()
    throw new RingProtocolError(
      `"${consumes}" is ${available} ahead of ${consumer}, at most ${most} is possible: ${this.#describe(indices)}`,
      { indices },
    )
  }

  #describe({ reqProd, reqEvent, rspProd, rspEvent, producer, consumer }: RingIndices): string {
    const { name, producer: producerName, consumer: consumerName } = this.#side
    const shared = `req_prod ${reqProd} req_event ${reqEvent} rsp_prod ${rspProd} rsp_event ${rspEvent}`
    return `${name} ring of ${this.size} slots, ${shared} ${producerName} ${producer} ${consumerName} ${consumer}`
  }
}
