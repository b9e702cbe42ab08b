/** `FrameCopies`: frames whose VLAN tag a switch changes. */
import { EtherType, Frames, MAX_FRAME } from '@xenkit/frames'
import { setU16, u16 } from '../bytes.ts'

/** A tag follows the two addresses of an Ethernet header: 0x8100, then priority and VLAN. */
const TAG_BYTES = 4
const ADDRESSES_BYTES = 12
/** Bits of a tag beside the VLAN's number: priority and drop eligibility. */
const PRIORITY = 0xf000
/** Memory of the copies: four of the longest frames, of which one frame may need two. */
const COPY_BYTES = 4 * (MAX_FRAME + 1)

/**
 * Copies of frames with another VLAN tag. Frames stay where they are in memory if they leave a
 * switch as they came in; only those that get or lose a tag are copied, once for all ports.
 */
export class FrameCopies {
  readonly #tagged = new Frames(1)
  readonly #untagged = new Frames(1)
  #memory = new Uint8Array(0)
  #used = 0
  #frames = new Frames(1)
  #index = 0

  /** Whether all copies of another frame find room. */
  get hasRoom(): boolean {
    return this.#used + 2 * (MAX_FRAME + 1) <= COPY_BYTES
  }

  /** Frees the room. No copy may be in use any more. */
  clear(): void {
    this.#used = 0
  }

  /** Chooses the frame to copy. */
  choose(frames: Frames, index: number): void {
    this.#frames = frames
    this.#index = index
    this.#tagged.count = 0
    this.#untagged.count = 0
  }

  /**
   * Returns the frame in a batch of its own, with a tag of this VLAN. Undefined: it is too long.
   * @param hasTag whether the frame has a tag, which is replaced
   */
  tagged(vlan: number, hasTag: boolean): Frames | undefined {
    if (this.#tagged.count > 0) return this.#tagged
    const copy = this.#copy(this.#tagged, hasTag ? TAG_BYTES : 0, TAG_BYTES)
    if (!copy) return undefined
    const at = (copy.start[0] ?? 0) + ADDRESSES_BYTES
    const from = (this.#frames.start[this.#index] ?? 0) + ADDRESSES_BYTES
    const priority = hasTag ? u16(this.#frames.memory, from + 2) & PRIORITY : 0
    setU16(copy.memory, at, EtherType.VLAN)
    setU16(copy.memory, at + 2, priority | vlan)
    return copy
  }

  /**
   * Returns the frame in a batch of its own, without its tag. Undefined: another tag follows, which
   * would look like the frame's VLAN.
   */
  untagged(): Frames | undefined {
    if (this.#untagged.count > 0) return this.#untagged
    const type = (this.#frames.start[this.#index] ?? 0) + ADDRESSES_BYTES + TAG_BYTES
    if (u16(this.#frames.memory, type) === EtherType.VLAN) return undefined
    return this.#copy(this.#untagged, TAG_BYTES, 0)
  }

  /** Copies the frame. @param from, to bytes of its tag, and of the copy's, which is left blank */
  #copy(copy: Frames, from: number, to: number): Frames | undefined {
    const [frames, i] = [this.#frames, this.#index]
    const start = frames.start[i] ?? 0
    const length = frames.length[i] ?? 0
    if (length - from + to > MAX_FRAME) return undefined
    if (this.#memory.length === 0) this.#memory = new Uint8Array(COPY_BYTES)
    const at = this.#used
    const { memory } = frames
    this.#memory.set(memory.subarray(start, start + ADDRESSES_BYTES), at)
    const rest = memory.subarray(start + ADDRESSES_BYTES + from, start + length)
    this.#memory.set(rest, at + ADDRESSES_BYTES + to)
    copy.reset(this.#memory)
    copy.addFrom(frames, i)
    copy.start[0] = at
    copy.length[0] = length - from + to
    copy.checksumStart[0] = (frames.checksumStart[i] ?? 0) - from + to
    copy.headers[0] = (frames.headers[i] ?? 0) - from + to
    this.#used += copy.length[0]
    return copy
  }
}
