/**
 * A batch of Ethernet frames. Columns describe the frames, which all lie in one memory, so that a
 * batch of 64 takes one call and creates no object.
 *
 * A frame may be incomplete in two ways, which save a processor's time. Its TCP or UDP checksum may
 * be blank, to be filled in by whoever sends it to a wire. And it may be a TCP segment of up to
 * 64 KiB (GSO), to be split likewise. An end says by its `Offloads` which of these it takes.
 */

/** State of a frame's TCP or UDP checksum. */
export const Checksum = {
  /** Complete as far as the sender says; the receiver has to verify it. */
  COMPLETE: 0,
  /** Complete, and verified. */
  VERIFIED: 1,
  /**
   * Blank: the field holds the sum of the pseudo-header alone. The data is trusted, since it never
   * left the host's memory. `checksumStart` and `checksumOffset` say where the sum belongs.
   */
  BLANK: 2,
} as const

/** A value of the constant `Checksum`. */
export type Checksum = (typeof Checksum)[keyof typeof Checksum]

/** How a frame has to be split. The values are those of XEN_NETIF_GSO_TYPE. */
export const Gso = { NONE: 0, TCPV4: 1, TCPV6: 2 } as const

/** A value of the constant `Gso`. */
export type Gso = (typeof Gso)[keyof typeof Gso]

/** Shortest frame, in bytes: an Ethernet header. */
export const MIN_FRAME = 14
/** Longest frame, in bytes. */
export const MAX_FRAME = 0xffff

/** Descriptions of one frame, for `Frames.add`. */
export interface FrameDescription {
  /** First byte within `memory`. */
  readonly start: number
  /** Bytes, 14..65535. */
  readonly length: number
  /** Default COMPLETE. With BLANK, give `checksumStart` and `checksumOffset` too. */
  readonly checksum?: Checksum
  /** First byte that the checksum covers, relative to the frame: its TCP or UDP header. */
  readonly checksumStart?: number
  /** Place of the checksum's two bytes, relative to `checksumStart`: 16 for TCP, 6 for UDP. */
  readonly checksumOffset?: number
  /** Default NONE. Otherwise the checksum is BLANK; give `gsoSize` and `headers` too. */
  readonly gso?: Gso
  /** Most bytes of TCP payload in each segment, 1..65535. */
  readonly gsoSize?: number
  /** Bytes of the headers, from Ethernet's to TCP's, that each segment repeats. */
  readonly headers?: number
}

/** A batch of frames, reused from batch to batch. */
export class Frames {
  /** Most frames. */
  readonly capacity: number
  /** Number of frames: they have indices 0..count-1 in each column. */
  count = 0
  /** Memory that all frames lie in. */
  memory: Uint8Array = new Uint8Array(0)
  /** First byte of a frame within `memory`. */
  readonly start: Uint32Array
  /** Bytes of a frame, 14..65535. */
  readonly length: Uint32Array
  /** A `Checksum`. */
  readonly checksum: Uint8Array
  /** With a BLANK checksum: first byte that it covers, relative to the frame. */
  readonly checksumStart: Uint16Array
  /** With a BLANK checksum: its place, relative to `checksumStart`. */
  readonly checksumOffset: Uint16Array
  /** A `Gso`. */
  readonly gso: Uint8Array
  /** With a `gso`: most bytes of TCP payload in a segment. */
  readonly gsoSize: Uint16Array
  /** With a `gso`: bytes of the headers that each segment repeats. */
  readonly headers: Uint16Array

  /** @param capacity most frames, 1..65536 */
  constructor(capacity: number) {
    this.capacity = capacity
    this.start = new Uint32Array(capacity)
    this.length = new Uint32Array(capacity)
    this.checksum = new Uint8Array(capacity)
    this.checksumStart = new Uint16Array(capacity)
    this.checksumOffset = new Uint16Array(capacity)
    this.gso = new Uint8Array(capacity)
    this.gsoSize = new Uint16Array(capacity)
    this.headers = new Uint16Array(capacity)
  }

  /** Removes all frames. @param memory memory of the next ones; default: the same */
  reset(memory: Uint8Array = this.memory): void {
    this.memory = memory
    this.count = 0
  }

  /** Adds a frame. @throws RangeError when the batch is full */
  add(frame: FrameDescription): void {
    const i = this.#next()
    this.start[i] = frame.start
    this.length[i] = frame.length
    this.checksum[i] = frame.checksum ?? Checksum.COMPLETE
    this.checksumStart[i] = frame.checksumStart ?? 0
    this.checksumOffset[i] = frame.checksumOffset ?? 0
    this.gso[i] = frame.gso ?? Gso.NONE
    this.gsoSize[i] = frame.gsoSize ?? 0
    this.headers[i] = frame.headers ?? 0
  }

  /**
   * Adds frame `index` of another batch, which has the same memory.
   * @throws RangeError when the batch is full
   */
  addFrom(other: Frames, index: number): void {
    const i = this.#next()
    this.start[i] = other.start[index] ?? 0
    this.length[i] = other.length[index] ?? 0
    this.checksum[i] = other.checksum[index] ?? 0
    this.checksumStart[i] = other.checksumStart[index] ?? 0
    this.checksumOffset[i] = other.checksumOffset[index] ?? 0
    this.gso[i] = other.gso[index] ?? 0
    this.gsoSize[i] = other.gsoSize[index] ?? 0
    this.headers[i] = other.headers[index] ?? 0
  }

  /** A frame's bytes: a view of the memory. It creates an object; hot paths use the columns. */
  bytes(index: number): Uint8Array {
    const start = this.start[index] ?? 0
    return this.memory.subarray(start, start + (this.length[index] ?? 0))
  }

  #next(): number {
    const i = this.count
    if (i === this.capacity) throw new RangeError(`the batch holds ${i} frames, its capacity`)
    this.count = i + 1
    return i
  }
}
