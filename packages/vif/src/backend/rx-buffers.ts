/**
 * Buffers that a guest has posted for received packets: requests of its receive ring. They are used
 * in the ring's order, and a buffer's response lands in the slot of its request, because each
 * request gets exactly one response. Linux's netfront relies on that: it ignores the response's id.
 */
import type { BackRing } from '@xenkit/ring'
import { netif } from '@xenkit/wire'

const { request } = netif.rx

/** Private copies of posted requests that aren't used yet, oldest first. */
export class RxBuffers {
  readonly #ring: BackRing
  readonly #words: Uint32Array
  /** Columns of a circular queue with a place for each slot of the ring. */
  readonly #gref: Uint32Array
  readonly #id: Uint16Array
  #oldest = 0
  #count = 0

  constructor(ring: BackRing) {
    this.#ring = ring
    this.#words = new Uint32Array(ring.image)
    this.#gref = new Uint32Array(ring.size)
    this.#id = new Uint16Array(ring.size)
  }

  /** Number of unused buffers that were taken from the ring. The ring may hold more. */
  get count(): number {
    return this.#count
  }

  /**
   * Whether the guest has posted enough buffers. If not, it is asked for an event with the next
   * one.
   * @throws RingProtocolError if the guest's index is impossible
   */
  has(buffers: number): boolean {
    while (this.#count < buffers) {
      if (this.#drain() === 0 && !this.#ring.finalCheck()) return false
    }
    return true
  }

  /** The oldest buffer's grant. */
  get gref(): number {
    return this.#gref[this.#oldest] ?? 0
  }

  /** The oldest buffer's id. */
  get id(): number {
    return this.#id[this.#oldest] ?? 0
  }

  /** Removes the oldest buffer. Its response is the next one to reserve. */
  shift(): void {
    this.#oldest = (this.#oldest + 1) & (this.#ring.size - 1)
    this.#count--
  }

  #drain(): number {
    const ring = this.#ring
    const count = ring.drain(ring.size)
    for (let i = 0; i < count; i++) {
      const at = ring.messageAt(i) / 4
      const place = (this.#oldest + this.#count++) & (ring.size - 1)
      this.#id[place] = this.#words[at + request.at.id / 4] ?? 0 // a Uint16Array keeps 16 bits
      this.#gref[place] = this.#words[at + request.at.gref / 4] ?? 0
    }
    return count
  }
}
