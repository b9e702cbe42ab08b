/** `AddressTable`: at which port a switch last saw each address. */

/** Keys of no address: VLANs end at 4094, so no key's upper half has all bits set. */
const EMPTY = 0xffff_ffff
/** Slots at first, a power of two. There are always at least twice as many as entries. */
const FIRST_SLOTS = 64

/** Whether an entry is kept. The MAC address is a number of 48 bits. */
type IsKept<Port> = (port: Port, seen: number, address: number, vlan: number) => boolean

/**
 * Maps a VLAN and a MAC address to a port. A key's upper half is the VLAN and the first two bytes
 * of the address; its lower half is the other four. It is a hash table with linear probing in
 * columns, so that a look-up creates no object. The hash depends on a random number: guests can't
 * choose addresses that collide.
 */
export class AddressTable<Port> {
  /** Number of entries. */
  size = 0
  readonly #seed = Math.trunc(Math.random() * 2 ** 32) | 1
  #high = new Uint32Array(FIRST_SLOTS).fill(EMPTY)
  #low = new Uint32Array(FIRST_SLOTS)
  #seen = new Float64Array(FIRST_SLOTS)
  #ports: (Port | undefined)[] = Array.from({ length: FIRST_SLOTS }, () => undefined)

  /** Returns the slot of an address, valid until the table changes, or -1. */
  find(high: number, low: number): number {
    const slot = this.#slot(high, low)
    return this.#high[slot] === EMPTY ? -1 : slot
  }

  port(slot: number): Port | undefined {
    return this.#ports[slot]
  }

  /** When the address was last set, in ms. */
  seen(slot: number): number {
    return this.#seen[slot] ?? 0
  }

  /** Notes that an address was seen at a port. */
  set(high: number, low: number, port: Port, now: number): void {
    let slot = this.#slot(high, low)
    if (this.#high[slot] === EMPTY) {
      if (2 * this.size >= this.#high.length) {
        this.#rebuild(this.#high.length * 2, () => true)
        slot = this.#slot(high, low)
      }
      this.size++
      this.#high[slot] = high
      this.#low[slot] = low
    }
    this.#ports[slot] = port
    this.#seen[slot] = now
  }

  /** Removes the entries that aren't to be kept. */
  keep(isKept: IsKept<Port>): void {
    this.#rebuild(this.#high.length, isKept)
  }

  #rebuild(slots: number, isKept: IsKept<Port>): void {
    const [high, low, seen, ports] = [this.#high, this.#low, this.#seen, this.#ports]
    this.size = 0
    this.#high = new Uint32Array(slots).fill(EMPTY)
    this.#low = new Uint32Array(slots)
    this.#seen = new Float64Array(slots)
    this.#ports = Array.from({ length: slots }, () => undefined)
    for (const [i, port] of ports.entries()) {
      const [upper, lower, at] = [high[i] ?? 0, low[i] ?? 0, seen[i] ?? 0]
      if (port === undefined) continue
      const address = (upper & 0xffff) * 2 ** 32 + lower
      if (isKept(port, at, address, upper >>> 16)) this.set(upper, lower, port, at)
    }
  }

  /** The slot of an address, or the empty one where it would be. */
  #slot(high: number, low: number): number {
    const mask = this.#high.length - 1
    let slot = this.#hash(high, low) & mask
    while (this.#high[slot] !== EMPTY && (this.#high[slot] !== high || this.#low[slot] !== low)) {
      slot = (slot + 1) & mask
    }
    return slot
  }

  #hash(high: number, low: number): number {
    let hash = Math.imul(high ^ this.#seed, 0x9e37_79b1) ^ low
    hash = Math.imul(hash ^ (hash >>> 15), this.#seed)
    return hash ^ (hash >>> 16)
  }
}
