/**
 * One direction of a ring of bytes: a circular buffer and two free-running indices. The console
 * (xen/include/public/io/console.h), xenstore (io/xs_wire.h), vchan and FLEX rings have two each.
 *
 * Both ends work alike: each owns one index, reads the other, and may move the bytes between them.
 * A consumer owns `cons` and may take `prod - cons` bytes. A producer owns `prod` and may fill the
 * bytes from `prod` to one ring's length after `cons`. So one subtraction and one comparison serve
 * both.
 *
 * The other domain can write to the page at any time. This end's index is in a private field and is
 * never read back. The other end's index is read once per transfer and checked before use. Indices
 * are kept as the int32 that `Atomics.load` returns, as in ring-end.ts.
 */
import { RingProtocolError, expectInteger } from '@xenkit/hypervisor'

/** Memory of one direction. */
export interface ByteRingMemory {
  /** Prefix of the indices' names in the header: `req` for `req_prod` and `req_cons`. */
  readonly name: string
  /** The buffer: all of it is the ring, and its length is a power of two. */
  readonly data: Uint8Array
  /** The page that holds both indices. */
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
   * Distance by which this end's index may be ahead of the other end's: the ring's length for a
   * producer, 0 for a consumer.
   */
  readonly #lead: number
  protected readonly data: Uint8Array
  protected readonly mask: number
  /** This end's index, as an int32. */
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

  /**
   * Returns how many bytes this end may write or read now.
   * @throws RingProtocolError if the other end's index is impossible
   */
  protected movable(): number {
    const other = Atomics.load(this.#words, this.#other)
    const count = (other + this.#lead - this.index) >>> 0
    // An index that went backwards is far ahead modulo 2^32, so one comparison finds both errors.
    if (count > this.data.length) this.#refuse(other)
    return count
  }

  /** Publishes this end's index after `count` bytes were moved. */
  protected moved(count: number): void {
    if (count === 0) return
    this.index = (this.index + count) | 0
    // The consumer sees the bytes /before/ the producer's new index. The producer sees the
    // consumer's new index only /after/ the bytes were read, and may then overwrite them. A peer
    // that is notified after this call sees the index too. Atomics.store is a full barrier, which
    // ensures all three.
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
 * The end that fills the ring. It starts at the page's `prod`, its own index, so that bytes of an
 * earlier producer can still be consumed.
 */
export class ByteRingProducer extends ByteRingEnd {
  constructor(memory: ByteRingMemory) {
    super('prod', memory)
  }

  /**
   * Writes as many of the bytes `start..end - 1` as the ring has room for. Allocates nothing.
   * @returns the number of bytes written
   * @throws RangeError if the range isn't within `bytes`
   * @throws RingProtocolError if the other end's index is where no correct peer can have moved it;
   *   nothing is written
   */
  write(bytes: Uint8Array, start = 0, end = bytes.length): number {
    expectInteger('end', end, 0, bytes.length)
    expectInteger('start', start, 0, end)
    const count = Math.min(this.movable(), end - start)
    const { data, mask } = this
    const stop = (start + count) | 0
    // `| 0` as in copy-slots.ts keeps the loop in int32. `set` of a subarray would take a third of
    // the time for 1 KiB but twice the time for 24 bytes, and would create a view.
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

/**
 * The end that empties the ring. It starts at the page's `cons`, its own index, so that bytes which
 * an earlier consumer has read aren't read again.
 */
export class ByteRingConsumer extends ByteRingEnd {
  constructor(memory: ByteRingMemory) {
    super('cons', memory)
  }

  /**
   * Reads as many bytes as the ring holds and `into` has room for. Each byte is read once.
   * Allocates nothing.
   * @returns the number of bytes read
   * @throws RingProtocolError if the other end's index is where no correct peer can have moved it;
   * nothing is read
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
