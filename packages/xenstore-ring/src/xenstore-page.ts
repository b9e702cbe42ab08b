/**
 * The page that a domain and xenstored share: two rings of bytes and a few words about the
 * connection. Follows xen/include/public/io/xs_wire.h (struct xenstore_domain_interface) and
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

export class XenstorePage {
  readonly #bytes: Uint8Array
  readonly #words: Int32Array

  /** @throws RangeError if it isn't a page */
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

  /** The other side sees what was stored before /before/ this. */
  store(word: Word, value: number): void {
    Atomics.store(this.#words, at[word] / 4, value)
  }

  /** One direction: requests or replies. */
  ring(name: 'req' | 'rsp'): ByteRingMemory {
    const data = this.#bytes.subarray(at[name], at[name] + XENSTORE_RING_SIZE)
    return { name, data, page: this.#bytes, prod: at[`${name}_prod`], cons: at[`${name}_cons`] }
  }
}

/**
 * The rings as one end has them: one it reads, one it writes, and what waits for room in that.
 *
 * Whoever moves an index notifies, says the specification. Linux notifies only an end that may
 * sleep: of bytes put into an empty ring, of room made in a full one. Both kinds of peers are
 * served by an end that looks once more after each index it moved, and sleeps when that look found
 * nothing to do.
 */
export class XenstoreRings {
  readonly #input: ByteRingConsumer
  readonly #output: ByteRingProducer
  readonly #waiting: ByteQueue
  readonly #turns: RingTurns
  readonly #chunk = new Uint8Array(XENSTORE_RING_SIZE)

  /** Goes on where the page's indices are. */
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
   * Sends of what waits as much as there is room for. @returns how many bytes: for any the other
   * end is to be notified. @throws RingProtocolError
   */
  flush(): number {
    const sent = this.#waiting.moveTo(this.#output)
    if (sent > 0 && this.#waiting.length > 0) this.#turns.schedule()
    return sent
  }

  /**
   * Takes what has come, a ring's length at most. Look again after it took something, as for
   * `flush`.
   * @returns a view that is valid until the next call: for any bytes the other end is to be
   *   notified
   * @throws RingProtocolError
   */
  read(): Uint8Array {
    return this.#chunk.subarray(0, this.#input.read(this.#chunk))
  }
}
