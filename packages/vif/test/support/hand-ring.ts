/**
 * A ring written by hand from ring.h, for either end. It shares no code with the packages that it
 * tests: neither index arithmetic nor layouts.
 */

/** Offsets of the index words in the page. */
const REQ_PROD = 0
const REQ_EVENT = 4
const RSP_PROD = 8
const RSP_EVENT = 12
const SLOTS = 64

/** One end of a ring. A frontend's end produces requests, a backend's end produces responses. */
export class HandRing {
  readonly bytes: Uint8Array
  readonly page: DataView
  readonly size: number
  readonly slotSize: number
  /** Next slots to produce into and to consume from, u32. */
  produced = 0
  consumed = 0
  #pushed = 0
  readonly #side: 'front' | 'back'

  constructor(side: 'front' | 'back', bytes: Uint8Array, slotSize: number) {
    this.bytes = bytes
    this.page = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.slotSize = slotSize
    this.size = 2 ** Math.floor(Math.log2((bytes.length - SLOTS) / slotSize))
    this.#side = side
    if (side === 'front') {
      for (const index of [REQ_PROD, RSP_PROD]) this.#store(index, 0)
      for (const event of [REQ_EVENT, RSP_EVENT]) this.#store(event, 1)
    }
  }

  /** The slot with a free-running index. */
  slot(index: number): DataView {
    const at = SLOTS + (index % this.size) * this.slotSize
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + at, this.slotSize)
  }

  /** The next slot to write a message into. `push` publishes it. */
  next(): DataView {
    const slot = this.slot(this.produced)
    this.produced = (this.produced + 1) >>> 0
    return slot
  }

  /** Publishes the messages written. @returns whether the other end asked to be notified */
  push(): boolean {
    const old = this.#pushed
    this.#pushed = this.produced
    this.#store(this.#side === 'front' ? REQ_PROD : RSP_PROD, this.produced)
    const event = this.#load(this.#side === 'front' ? REQ_EVENT : RSP_EVENT)
    return (this.produced - event) >>> 0 < (this.produced - old) >>> 0
  }

  /** Number of messages of the other end that wait. */
  get available(): number {
    return (this.#load(this.#side === 'front' ? RSP_PROD : REQ_PROD) - this.consumed) >>> 0
  }

  /** Takes the next message of the other end: a copy, and the index of its slot. */
  take(): { readonly message: DataView; readonly index: number } {
    const index = this.consumed
    const { buffer, byteOffset } = this.slot(index)
    const copy = new Uint8Array(new Uint8Array(buffer, byteOffset, this.slotSize))
    this.consumed = (index + 1) >>> 0
    return { message: new DataView(copy.buffer), index }
  }

  /**
   * Asks for a notification of the next message, or of one that is `ahead` messages later.
   * @returns whether there is a message already
   */
  arm(ahead = 0): boolean {
    const event = (this.consumed + ahead + 1) >>> 0
    this.#store(this.#side === 'front' ? RSP_EVENT : REQ_EVENT, event)
    return this.available > 0
  }

  #load(at: number): number {
    return Atomics.load(new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, 4), at / 4)
  }

  #store(at: number, value: number): void {
    Atomics.store(new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, 4), at / 4, value)
  }
}
