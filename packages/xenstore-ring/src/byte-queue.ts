/**
 * A queue of bytes that wait for room in a ring. However many bytes wait, each is copied at most
 * once more within the queue.
 */
import type { ByteRingProducer } from '@xenkit/ring'

const INITIAL_SIZE = 4096
/**
 * Bytes that the buffer keeps. If a burst has made it larger, it is dropped when it becomes empty.
 */
const KEPT_SIZE = 65_536

/** A growing byte buffer with a start and an end. */
export class ByteQueue {
  #buffer = new Uint8Array(INITIAL_SIZE)
  /** Bounds of the queued bytes: `#from..#to - 1`. */
  #from = 0
  #to = 0

  get length(): number {
    return this.#to - this.#from
  }

  push(bytes: Uint8Array): void {
    if (this.#to + bytes.length > this.#buffer.length) this.#makeRoom(bytes.length)
    this.#buffer.set(bytes, this.#to)
    this.#to += bytes.length
  }

  /**
   * Writes as many queued bytes as the ring has room for.
   * @returns the number of bytes written
   * @throws RingProtocolError if the peer broke the ring's rules; nothing is written
   */
  moveTo(ring: ByteRingProducer): number {
    if (this.length === 0) return 0
    const moved = ring.write(this.#buffer, this.#from, this.#to)
    this.#from += moved
    if (this.length === 0) {
      this.#from = this.#to = 0
      if (this.#buffer.length > KEPT_SIZE) this.#buffer = new Uint8Array(INITIAL_SIZE)
    }
    return moved
  }

  #makeRoom(bytes: number): void {
    const needed = this.length + bytes
    // Compact the buffer only if at least half of it has become free, so that bytes aren't moved
    // often.
    const buffer =
      needed * 2 <= this.#buffer.length
        ? this.#buffer
        : new Uint8Array(Math.max(needed, this.#buffer.length * 2))
    buffer.set(this.#buffer.subarray(this.#from, this.#to))
    this.#to = this.length
    this.#from = 0
    this.#buffer = buffer
  }
}
