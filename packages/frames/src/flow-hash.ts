/**
 * Hashes of flows by Toeplitz's algorithm, as receive-side scaling (RSS) uses them: all packets of
 * a flow have the same hash, so that they go to the same queue. Follows the section on hash types
 * of xen/include/public/io/netif.h.
 */
import { EtherType, type Headers, IpProtocol, NO_PROTOCOL } from './headers.ts'

/**
 * Bits that select which packets have a hash, and what it covers. The values up to IPV6_TCP are
 * those of XEN_NETIF_CTRL_HASH_TYPE; netif.h has none for UDP.
 */
export const HashType = {
  IPV4: 1,
  IPV4_TCP: 2,
  IPV6: 4,
  IPV6_TCP: 8,
  IPV4_UDP: 16,
  IPV6_UDP: 32,
} as const

/** Longest key, in bytes. An input of 36 bytes uses all of it. */
export const MAX_HASH_KEY = 40

/** Longest input in half bytes: IPv6's addresses and two ports. */
const MAX_INPUT = 2 * 36

const EMPTY_KEY = new Uint8Array(0)

/** Computes the hash of a frame's flow. */
export class FlowHash {
  /** The hash last computed. */
  value = 0
  /** Its only bit of `HashType`. 0: the frame has none. */
  type = 0
  /** For each half byte of the input, what each of its 16 values adds to the hash. */
  readonly #parts = new Uint32Array(MAX_INPUT * 16)

  /** @param key up to 40 bytes; the rest is 0 */
  constructor(key: Uint8Array = EMPTY_KEY) {
    this.setKey(key)
  }

  /** Sets another key. @param key up to 40 bytes; the rest is 0 */
  setKey(key: Uint8Array): void {
    this.#parts.fill(0)
    for (let bit = 0; bit < 4 * MAX_INPUT; bit++) {
      const part = keyWord(key, bit)
      const mask = 8 >> (bit & 3)
      const first = 16 * (bit >> 2)
      for (let half = 0; half < 16; half++) {
        const index = first + half
        if ((half & mask) !== 0) this.#parts[index] = (this.#parts[index] ?? 0) ^ part
      }
    }
  }

  /**
   * Computes `value` and `type`. Of several types that fit, it is the one that covers ports.
   *
   * @param memory memory that the frame lies in
   * @param start first byte of the frame
   * @param headers the frame's headers
   * @param types bits of `HashType` that may be used
   */
  compute(memory: Uint8Array, start: number, headers: Headers, types: number): void {
    this.value = 0
    this.type = typeOf(headers, types)
    if (this.type === 0) return
    const ipv4 = headers.ethertype === EtherType.IPV4
    const addresses = start + headers.l3 + (ipv4 ? 12 : 8)
    const bytes = ipv4 ? 8 : 32
    this.#add(memory, addresses, bytes, 0)
    if ((this.type & (HashType.IPV4 | HashType.IPV6)) === 0) {
      this.#add(memory, start + headers.l4, 4, bytes)
    }
    this.value >>>= 0
  }

  /** Adds bytes of the input. @param place index of the first of them in the input */
  #add(memory: Uint8Array, from: number, bytes: number, place: number): void {
    const parts = this.#parts
    let value = this.value
    for (let i = 0; i < bytes; i++) {
      const byte = memory[from + i] ?? 0
      const at = 32 * (place + i)
      value ^= (parts[at + (byte >> 4)] ?? 0) ^ (parts[at + 16 + (byte & 15)] ?? 0)
    }
    this.value = value
  }
}

/** The key's 32 bits from bit `at` on. */
function keyWord(key: Uint8Array, at: number): number {
  const first = at >> 3
  let word = 0
  for (let i = 0; i < 4; i++) word = (word << 8) | (key[first + i] ?? 0)
  const shift = at & 7
  return (word << shift) | ((key[first + 4] ?? 0) >> (8 - shift))
}

function typeOf(headers: Headers, types: number): number {
  const { ethertype, protocol, fragment, checksum } = headers
  const ipv6 = ethertype === EtherType.IPV6
  if (protocol === NO_PROTOCOL) return 0
  // Parts of a packet have no ports but the first one, so that all of them are hashed without.
  if (checksum !== 0 && !fragment) {
    const tcp = ipv6 ? HashType.IPV6_TCP : HashType.IPV4_TCP
    const udp = ipv6 ? HashType.IPV6_UDP : HashType.IPV4_UDP
    const type = protocol === IpProtocol.TCP ? tcp : udp
    if ((types & type) !== 0) return type
  }
  return types & (ipv6 ? HashType.IPV6 : HashType.IPV4)
}
