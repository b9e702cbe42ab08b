/**
 * The page that a domain and xenstored share: two byte rings, and a few words about the connection.
 * Follows xen/include/public/io/xs_wire.h (struct xenstore_domain_interface) and
 * docs/misc/xenstore-ring.txt.
 */
import { XENSTORE_RING_SIZE, XEN_PAGE_SIZE, xenstoreDomainInterface } from '@xenkit/wire'
import type { ByteQueue } from './byte-queue.ts'
import { ByteRingConsumer, ByteRingProducer, type ByteRingMemory } from '@xenkit/ring'
import type { RingTurns } from './ring-turns.ts'

const { at } = xenstoreDomainInterface

type Word =
  | 'req_cons'
  | 'req_prod'
  | 'rsp_cons'
  | 'rsp_prod'
  | 'server_features'
  | 'connection'
  | 'error'

/** Access to a xenstore page's words and rings. */
export class XenstorePage {
  readonly #bytes: Uint8Array
  readonly #words: Int32Array

  /** @throws RangeError if `bytes` isn't 4096 bytes long */
  constructor(bytes: Uint8Array) {
    if (bytes.byteLength !== XEN_PAGE_SIZE) {
      throw new RangeError(`"page" expected ${XEN_PAGE_SIZE} bytes, got ${bytes.byteLength}`)
    }
    this.#bytes = bytes
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, XEN_PAGE_SIZE / 4)
  }

  load(word: Word): number {
    return Atomics.load(this.#words, at[word] / 4) >>> 0
  }

  /** Stores a word of the page. The other side sees earlier stores /before/ this one. */
  store(word: Word, value: number): void {
    Atomics.store(this.#words, at[word] / 4, value)
  }

  /** Returns one direction of the ring: requests or replies. */
  ring(name: 'req' | 'rsp'): ByteRingMemory {
    const data = this.#bytes.subarray(at[name], at[name] + XENSTORE_RING_SIZE)
    return { name, data, page: this.#bytes, prod: at[`${name}_prod`], cons: at[`${name}_cons`] }
  }
}

/**
 * Both rings as one end uses them: one to read, one to write, and the bytes that wait for room.
 *
 * The specification says that the end which moves an index notifies. Linux notifies only a peer
 * that may sleep: after bytes put into an empty ring, and after room made in a full one. This works
 * with both: an end checks once more after each index that it moved, and sleeps only when that
 * check found nothing.
 */
export class XenstoreRings {
  readonly #input: ByteRingConsumer
  readonly #output: ByteRingProducer
  readonly #waiting: ByteQueue
  readonly #turns: RingTurns
  readonly #chunk = new Uint8Array(XENSTORE_RING_SIZE)

  /** Starts at the indices that the page holds now. */
  constructor(
    page: XenstorePage,
    o: {
      readonly reads: 'req' | 'rsp'
      readonly writes: 'req' | 'rsp'
      readonly waiting: ByteQueue
      readonly turns: RingTurns
    },
  ) {
    this.#input = new ByteRingConsumer(page.ring(o.reads))
    this.#output = new ByteRingProducer(page.ring(o.writes))
    this.#waiting = o.waiting
    this.#turns = o.turns
  }

  /**
   * Sends as many waiting bytes as there is room for.
   * @returns the number of bytes sent; if any, notify the other end
   * @throws RingProtocolError
   */
  flush(): number {
    const sent = this.#waiting.moveTo(this.#output)
    if (sent > 0 && this.#waiting.length > 0) this.#turns.schedule()
    return sent
  }

  /**
   * Receives at most a ring's length of bytes. If the result isn't empty, notify the other end and
   * call again.
   * @returns a view that is valid until the next call
   * @throws RingProtocolError
   */
  read(): Uint8Array {
    return this.#chunk.subarray(0, this.#input.read(this.#chunk))
  }
}
