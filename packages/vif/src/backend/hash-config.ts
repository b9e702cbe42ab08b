/**
 * How packets for the guest are spread over its queues. The guest may configure a hash by its
 * control ring, as the section "Hash algorithms" of xen/include/public/io/netif.h says. What it
 * configures is refused as Linux's netback refuses it.
 */
import { FlowHash, type Frames, HashType, Headers } from '@xenkit/frames'
import { XEN_NETIF_CTRL_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_TYPE } from '@xenkit/wire'

const { NONE, TOEPLITZ } = XEN_NETIF_CTRL_HASH_ALGORITHM
const { IPV4, IPV4_TCP, IPV6, IPV6_TCP } = XEN_NETIF_CTRL_HASH_TYPE

/** Types of hash that a guest may ask for: bits of XEN_NETIF_CTRL_HASH_TYPE. */
export const HASH_TYPES = IPV4 | IPV4_TCP | IPV6 | IPV6_TCP

/** Most entries of the table that maps hashes to queues: XEN_NETBK_MAX_HASH_MAPPING_SIZE. */
export const MAX_HASH_MAPPING = 128

/** Types of the hash that spreads flows while the guest has configured none. */
const OWN_TYPES = HASH_TYPES | HashType.IPV4_UDP | HashType.IPV6_UDP

/** Key of that hash: the one that Microsoft's documentation of RSS has in its examples. */
const OWN_KEY = Uint8Array.from(
  [
    0x6d5a56da, 0x255b0ec2, 0x4167253d, 0x43a38fb0, 0xd0ca2bcb, 0xae7b30b4, 0x77cb2da3, 0x8030f20c,
    0x6a42b73b, 0xbeac01fa,
  ].flatMap((word) => [word >>> 24, word >>> 16, word >>> 8, word]),
)

/** A card's queues, and the hash that chooses one of them. */
export class HashConfig {
  readonly #queues: number
  readonly #headers = new Headers()
  readonly #own = new FlowHash(OWN_KEY)
  /** The guest's hash. Its key is empty at first, so that each hash is 0. */
  readonly #hash = new FlowHash()
  #toeplitz = false
  #types = 0
  #mapping = new Uint8Array(0)

  /** @param queues number of the card's queues, 1..8 */
  constructor(queues: number) {
    this.#queues = queues
  }

  /** Whether the guest has chosen an algorithm. */
  get hasAlgorithm(): boolean {
    return this.#toeplitz
  }

  /** Whether packets are to be hashed as the guest says. */
  get isConfigured(): boolean {
    return this.#toeplitz && this.#types !== 0
  }

  /** The last frame's hash, which the guest gets as extra info. Meaningless if `type` is 0. */
  get value(): number {
    return this.#hash.value
  }

  /** The last frame's type of hash, a bit of XEN_NETIF_CTRL_HASH_TYPE. 0: it has none. */
  get type(): number {
    return this.#hash.type
  }

  /** Chooses the queue of a frame, 0 to the number of queues - 1. Sets `value` and `type`. */
  queueOf(frames: Frames, index: number): number {
    const queues = this.#queues
    const configured = this.isConfigured
    if (!configured) {
      this.#hash.type = 0
      if (queues === 1) return 0
    }
    const hash = configured ? this.#hash : this.#own
    const { memory } = frames
    const start = frames.start[index] ?? 0
    this.#headers.parse(memory, start, frames.length[index] ?? 0)
    hash.compute(memory, start, this.#headers, configured ? this.#types : OWN_TYPES)
    const { length } = this.#mapping
    if (!configured || length === 0) return hash.value % queues
    return this.#mapping[hash.value % length] ?? 0
  }

  /** Sets the algorithm. @returns false if there is no such one */
  setAlgorithm(algorithm: number): boolean {
    if (algorithm !== NONE && algorithm !== TOEPLITZ) return false
    this.#toeplitz = algorithm === TOEPLITZ
    return true
  }

  /**
   * Sets the types of hash: bits of XEN_NETIF_CTRL_HASH_TYPE. With 0 the backend chooses queues.
   * @returns false if a bit isn't known, or no algorithm is set
   */
  setTypes(types: number): boolean {
    if ((types & ~HASH_TYPES) !== 0 || !this.#toeplitz) return false
    this.#types = types
    return true
  }

  /** Sets the key. @param key 0..40 bytes; the rest is 0 */
  setKey(key: Uint8Array): void {
    this.#hash.setKey(key)
  }

  /**
   * Sets the size of the table, and all its entries to 0. With 0 a hash modulo the number of queues
   * is the queue.
   * @returns false if it is above 128
   */
  setMappingSize(size: number): boolean {
    if (size > MAX_HASH_MAPPING) return false
    this.#mapping = new Uint8Array(size)
    return true
  }

  /** Whether a part of so many entries lies in the table. The sum can't wrap: XSA-270. */
  hasMapping(first: number, entries: number): boolean {
    return first + entries <= this.#mapping.length
  }

  /**
   * Sets a part of the table, all of it or nothing.
   * @param first index of the first entry; `hasMapping` says whether the part lies in the table
   * @param queues the entries: private memory, which the guest can't change any more
   * @returns false if one of them isn't a queue
   */
  setMapping(first: number, queues: Uint32Array): boolean {
    if (queues.some((queue) => queue >= this.#queues)) return false
    this.#mapping.set(queues, first)
    return true
  }
}
