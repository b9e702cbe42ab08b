/**
 * Bytes that wait for room in a ring, in order. Each is copied once more at most, however many
 * wait.
 */
import type { ByteRingProducer } from '@xenkit/ring'

const INITIAL_SIZE = 4096
/** A buffer that one burst made larger than this is given back. */
const KEPT_SIZE = 65_536

export class ByteQueue {
  #buffer = new Uint8Array(INITIAL_SIZE)
  /** What waits lies here, `#from..#to - 1`. */
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
   * Puts into the ring what it has room for.
   * @returns how many bytes
   * @throws RingProtocolError as the ring does; nothing is moved
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
    // Moved up only where at least as much was taken out since as is moved now.
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
