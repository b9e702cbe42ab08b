/** `Delivery`: a batch of frames on its way through a switch. */
import { EtherType, type Frames } from '@xenkit/frames'
import { u16 } from '../bytes.ts'
import { FrameCopies } from './frame-copies.ts'
import type { Port } from './switch-port.ts'
import { NO_VLAN } from './vlan.ts'

/** Offset of a frame's type, or of its VLAN tag. */
const TYPE = 12
const MIN_TAGGED = 18

/**
 * Sorts the frames of a batch by the ports that they go to. Frames stay in the sender's memory,
 * unless a port wants another VLAN tag. Sends may be nested, so each depth has a delivery of its
 * own.
 */
export class Delivery {
  /** VLAN of the current frame; NO_VLAN if the port that it came in by doesn't take it. */
  vlan = NO_VLAN
  readonly #depth: number
  readonly #copies = new FrameCopies()
  /** Ports that have frames to be sent. An array that is emptied would be allocated anew. */
  readonly #ports: (Port | undefined)[] = []
  #count = 0
  #hasTag = false
  /** VLAN of the current frame's tag. 0: no tag, or one that has a priority alone. */
  #tag = NO_VLAN

  /** @param depth of nested sends, 0 at first */
  constructor(depth: number) {
    this.#depth = depth
  }

  /** Begins with a frame that came in by a port. */
  begin(from: Port, frames: Frames, index: number): void {
    const { memory } = frames
    const type = (frames.start[index] ?? 0) + TYPE
    const length = frames.length[index] ?? 0
    this.#hasTag = u16(memory, type) === EtherType.VLAN
    this.#tag = this.#hasTag ? u16(memory, type + 2) & 0xfff : NO_VLAN
    const isWhole = !this.#hasTag || length >= MIN_TAGGED
    this.vlan = isWhole ? from.settings.vlans.of(this.#tag) : NO_VLAN
    if (!this.#copies.hasRoom) this.flush()
    this.#copies.choose(frames, index)
  }

  /**
   * Adds the frame to those that go to a port. Returns false if it can't be tagged as it should.
   */
  add(to: Port, frames: Frames, index: number): boolean {
    const isTagged = to.settings.vlans.isTagged(this.vlan)
    if (isTagged ? this.#hasTag && this.#tag === this.vlan : !this.#hasTag) {
      this.#push(to, frames, index)
      return true
    }
    const copy = isTagged ? this.#copies.tagged(this.vlan, this.#hasTag) : this.#copies.untagged()
    if (!copy) return false
    this.#push(to, copy, 0)
    return true
  }

  /** Sends the frames to their ports. */
  flush(): void {
    for (let i = 0; i < this.#count; i++) {
      this.#ports[i]?.flush(this.#depth)
      this.#ports[i] = undefined
    }
    this.#count = 0
    this.#copies.clear()
  }

  #push(to: Port, frames: Frames, index: number): void {
    if (to.add(frames, index, this.#depth)) this.#ports[this.#count++] = to
  }
}
