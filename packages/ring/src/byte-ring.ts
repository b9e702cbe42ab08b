/**
 * One direction of a ring of bytes: a circular buffer and two free-running indices, as the console
 * (xen/include/public/io/console.h), xenstore (io/xs_wire.h), vchan and FLEX rings have two of
 * each.
 *
 * A producer's end is a consumer's end seen from the other side: both own one index, look at the
 * other one and may move as many bytes as lie between them. A consumer owns `cons` and takes `prod
 * - cons` bytes; a producer owns `prod`, and what it may fill begins at `prod` and ends a ring's
 *   length behind
 * `cons`. One subtraction and one comparison serve both.
 *
 * The other domain can write to the page at any time. This end's index lives in a private field and
 * is never read back; the other end's is read once per transfer and checked before use. Indices are
 * kept as the int32 that `Atomics.load` gives, as in ring-end.ts.
 */
import { RingProtocolError, expectInteger } from '@xenkit/hypervisor'

/** Where one direction lies. */
export interface ByteRingMemory {
  /** The indices are called after it, `req_prod` and `req_cons` for `req`, as the header does. */
  readonly name: string
  /** The buffer: all of it is the ring, its length is a power of two. */
  readonly data: Uint8Array
  /** Holds both indices. */
  readonly page: Uint8Array
  /** Offsets of the two indices in `page`, multiples of 4 in its buffer. */
  readonly prod: number
  readonly cons: number
}

abstract class ByteRingEnd {
  readonly #name: string
  readonly #words: Int32Array
  /** Positions of the two indices in `#words`. */
  readonly #own: number
  readonly #other: number
  /**
   * How far behind the other end's index this end may go: the ring's length for a producer, else 0.
   */
  readonly #lead: number
  protected readonly data: Uint8Array
  protected readonly mask: number
  /** This end's index. */
  protected index: number

  /** @throws RangeError if the memory can't be a ring */
  protected constructor(own: 'prod' | 'cons', { name, data, page, prod, cons }: ByteRingMemory) {
    const { length } = data
    if (length === 0 || (length & (length - 1)) !== 0) {
      throw new RangeError(`"data" of "${name}" expected a power of two, got ${length} bytes`)
    }
    this.#name = name
    this.#words = new Int32Array(page.buffer, page.byteOffset, page.byteLength >>> 2)
    for (const offset of [prod, cons]) {
      if (this.#words[offset / 4] === undefined) {
        throw new RangeError(
          `index of "${name}" expected at a multiple of 4 within ${page.byteLength} bytes, got ${offset}`,
        )
      }
    }
    this.#own = (own === 'prod' ? prod : cons) / 4
    this.#other = (own === 'prod' ? cons : prod) / 4
    this.#lead = own === 'prod' ? length : 0
    this.data = data
    this.mask = length - 1
    this.index = Atomics.load(this.#words, this.#own)
  }

  /** Bytes that may be moved now, checked. */
  protected movable(): number {
    const other = Atomics.load(this.#words, this.#other)
    const count = (other + this.#lead - this.index) >>> 0
    // An index that went backwards is far ahead modulo 2^32: one comparison finds both.
    if (count > this.data.length) this.#refuse(other)
    return count
  }

  /** Publishes the new index once its bytes are moved. */
  protected moved(count: number): void {
    if (count === 0) return
    this.index = (this.index + count) | 0
    // The consumer sees the bytes /before/ the producer's new index, and the producer sees the
    // consumer's new index only /after/ the bytes were read and may be overwritten. And whoever is
    // notified after this call sees the index: Atomics.store is a full barrier.
    Atomics.store(this.#words, this.#own, this.index)
  }

  #refuse(other: number): never {
    const [prod, cons] =
      this.#lead === 0 ? [other >>> 0, this.index >>> 0] : [this.index >>> 0, other >>> 0]
    const distance = (prod - cons) >>> 0
    throw new RingProtocolError(
      `"${this.#name}_prod" ${prod} is ${distance} ahead of "${this.#name}_cons" ${cons}, at most ${this.data.length} is possible`,
      { indices: { prod, cons } },
    )
  }
}

/**
 * The end that fills the ring. It goes on at the `prod` of the page, which is its own: what an
 * earlier producer left there is still to be consumed.
 */
export class ByteRingProducer extends ByteRingEnd {
  constructor(memory: ByteRingMemory) {
    super('prod', memory)
  }

  /**
   * Puts as many of the bytes `start..end - 1` into the ring as it has room for. No allocation.
   * @returns how many
   * @throws RangeError if they don't lie within `bytes`
   * @throws RingProtocolError if the other end's index is where no correct peer can have moved it;
   *   nothing is moved
   */
  write(bytes: Uint8Array, start = 0, end = bytes.length): number {
    expectInteger('end', end, 0, bytes.length)
    expectInteger('start', start, 0, end)
    const count = Math.min(this.movable(), end - start)
    const { data, mask } = this
    const stop = (start + count) | 0
    // `| 0` as in copy-slots.ts. By `set` of a subarray 1 KiB takes a third, 24 bytes twice the
    // time, and a view is made.
    for (
      let at = this.index & mask, i = start | 0;
      i < stop;
      i = (i + 1) | 0, at = (at + 1) & mask
    ) {
      data[at] = bytes[i] ?? 0
    }
    this.moved(count)
    return count
  }
}

/** The end that empties the ring. It goes on at the `cons` of the page, which is its own. */
export class ByteRingConsumer extends ByteRingEnd {
  constructor(memory: ByteRingMemory) {
    super('cons', memory)
  }

  /**
   * Takes what is there, as much as fits into `into`: each byte is read once. No allocation.
   * @returns how many bytes
   * @throws RingProtocolError as `write` does
   */
  read(into: Uint8Array): number {
    const count = Math.min(this.movable(), into.length)
    const { data, mask } = this
    for (let at = this.index & mask, i = 0; i < count; i = (i + 1) | 0, at = (at + 1) & mask) {
      into[i] = data[at] ?? 0
    }
    this.moved(count)
    return count
  }
}
