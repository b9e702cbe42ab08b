/**
 * The multicast addresses of one card: those that its guest wants to receive. The guest adds and
 * removes them by extra infos of the transmit ring.
 */

/** Most addresses of a card: as many as Linux's netback keeps. */
export const MAX_MULTICAST_ADDRESSES = 64

/** Bytes of an Ethernet address. */
const ADDRESS = 6

/** Broadcast isn't filtered. As a number, like the listed addresses. */
const BROADCAST = 2 ** 48 - 1

/** The list of one card, shared by its queues. An address added twice has to be removed twice. */
export class MulticastFilter {
  /** Whether the guest wants only multicast frames to the listed addresses. */
  enabled = false
  readonly #addresses = new Float64Array(MAX_MULTICAST_ADDRESSES)
  #count = 0

  /**
   * Adds an address.
   * @param at the first of its six bytes
   * @returns false if the list is full
   */
  add(bytes: Uint8Array, at: number): boolean {
    if (this.#count === MAX_MULTICAST_ADDRESSES) return false
    this.#addresses[this.#count++] = read(bytes, at)
    return true
  }

  /** Removes an address, if it is listed. @param at the first of its six bytes */
  remove(bytes: Uint8Array, at: number): void {
    const found = this.#find(read(bytes, at))
    if (found < 0) return
    this.#count--
    this.#addresses[found] = this.#addresses[this.#count] ?? 0
  }

  /**
   * Whether the guest wants a frame.
   * @param at the frame's first byte, which its destination address starts with
   */
  passes(bytes: Uint8Array, at: number): boolean {
    const isGroup = ((bytes[at] ?? 0) & 1) === 1
    if (!this.enabled || !isGroup) return true
    const address = read(bytes, at)
    return address === BROADCAST || this.#find(address) >= 0
  }

  #find(address: number): number {
    for (let i = 0; i < this.#count; i++) if (this.#addresses[i] === address) return i
    return -1
  }
}

/** An address as a number of 48 bits. */
function read(bytes: Uint8Array, at: number): number {
  let address = 0
  for (let i = at; i < at + ADDRESS; i++) address = address * 256 + (bytes[i] ?? 0)
  return address
}
