/**
 * `FrameSender`: sends frames to an end, and completes those that the end doesn't take as they are.
 */
import { ChecksumUnit } from './checksum.ts'
import { Checksum, Frames, Gso, MAX_FRAME } from './frames.ts'
import { EtherType, Headers } from './headers.ts'
import { type LinkEnd, NO_OFFLOADS, type Offloads } from './link.ts'
import { Segmenter, aheadBy } from './segment.ts'

/** Memory of completed frames, in bytes: two of the longest. */
const SCRATCH = 2 * (MAX_FRAME + 1)
/**
 * Most completed frames in a batch: as many of 1500 bytes as the memory holds, and some small ones.
 */
const BATCH = 128

/** Place of the type in an Ethernet header. */
const ETHERTYPE = 12

/** Sends frames to an end, in order. */
export class FrameSender {
  /** Number of frames that couldn't be completed, since their headers lie, and weren't sent. */
  dropped = 0
  readonly #end: LinkEnd
  readonly #headers = new Headers()
  /** Those of calls that have ended: an end may make its link send more before it returns. */
  readonly #completers: Completer[] = []

  constructor(end: LinkEnd) {
    this.#end = end
  }

  /** What the end takes as it is. */
  get offloads(): Offloads {
    return this.#end.offloads ?? NO_OFFLOADS
  }

  /**
   * Sends a batch. If the end takes all of its frames as they are, it gets this batch. Otherwise it
   * gets copies: TCP segments are split, and blank checksums completed, when the end takes none.
   */
  send(frames: Frames): void {
    const { offloads } = this
    for (let i = 0; i < frames.count; i++) {
      if (this.#takes(frames, i, offloads)) continue
      this.#complete(frames, offloads)
      return
    }
    this.#end.send(frames)
  }

  #complete(frames: Frames, offloads: Offloads): void {
    const completer = this.#completers.pop() ?? new Completer(this.#end)
    for (let i = 0; i < frames.count; i++) {
      if (this.#takes(frames, i, offloads)) completer.copy(frames, i)
      else if (!completer.complete(frames, i)) this.dropped++
    }
    completer.flush()
    this.#completers.push(completer)
  }

  #takes(frames: Frames, i: number, offloads: Offloads): boolean {
    const gso = frames.gso[i]
    if (gso === Gso.NONE && frames.checksum[i] !== Checksum.BLANK) return true
    if (offloads.tagged === false && isTagged(frames, i)) return false
    if (gso === Gso.TCPV4) return offloads.gso4
    if (gso === Gso.TCPV6) return offloads.gso6
    if (offloads.checksum4 === offloads.checksum6) return offloads.checksum4
    this.#headers.parse(frames.memory, frames.start[i] ?? 0, frames.length[i] ?? 0)
    const { ethertype } = this.#headers
    return ethertype === (offloads.checksum4 ? EtherType.IPV4 : EtherType.IPV6)
  }
}

/** Whether a frame has a VLAN tag. */
function isTagged({ memory, start }: Frames, i: number): boolean {
  const at = (start[i] ?? 0) + ETHERTYPE
  const type = ((memory[at] ?? 0) << 8) | (memory[at + 1] ?? 0)
  return type === EtherType.VLAN || type === EtherType.SERVICE_VLAN
}

/** Completes frames into memory of its own, and sends them whenever it is full. */
class Completer {
  readonly #end: LinkEnd
  readonly #unit = new ChecksumUnit()
  readonly #segmenter = new Segmenter(this.#unit)
  readonly #out = new Frames(BATCH)
  #free = 0

  constructor(end: LinkEnd) {
    this.#end = end
    this.#out.reset(new Uint8Array(SCRATCH))
  }

  /** Sends a copy. */
  copy(frames: Frames, i: number): void {
    const start = frames.start[i] ?? 0
    const length = frames.length[i] ?? 0
    const place = this.#reserve(length, frames.memory, start)
    this.#unit.copy(frames.memory, start, start + length, this.#out.memory, place)
    this.#add(frames, i, place)
  }

  /** Sends what the frame stands for. @returns false if its headers lie: nothing is sent */
  complete(frames: Frames, i: number): boolean {
    return frames.gso[i] === Gso.NONE ? this.#fill(frames, i) : this.#split(frames, i)
  }

  flush(): void {
    const out = this.#out
    if (out.count > 0) this.#end.send(out)
    out.reset()
    this.#free = 0
  }

  #fill(frames: Frames, i: number): boolean {
    const place = this.#reserve(frames.length[i] ?? 0, frames.memory, frames.start[i] ?? 0)
    if (!this.#unit.complete(frames, i, this.#out.memory, place)) return false
    this.#out.checksum[this.#add(frames, i, place)] = Checksum.COMPLETE
    return true
  }

  #split(frames: Frames, i: number): boolean {
    const segmenter = this.#segmenter
    if (!segmenter.begin(frames, i)) return false
    while (!segmenter.done) {
      this.#makeRoom(segmenter.segmentBytes)
      this.#free = segmenter.write(this.#out, this.#free)
    }
    return true
  }

  #add(frames: Frames, i: number, place: number): number {
    const out = this.#out
    const index = out.count
    out.addFrom(frames, i)
    out.start[index] = place
    this.#free = place + (frames.length[i] ?? 0)
    return index
  }

  /** A place for a copy of so many bytes at `start` of `memory`. */
  #reserve(bytes: number, memory: Uint8Array, start: number): number {
    this.#makeRoom(bytes)
    return this.#free + aheadBy(memory, start, this.#out.memory, this.#free)
  }

  #makeRoom(bytes: number): void {
    const { count, capacity, memory } = this.#out
    // The copy may begin up to 3 bytes later.
    if (count === capacity || this.#free + bytes + 3 > memory.length) this.flush()
  }
}
