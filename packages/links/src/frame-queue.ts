/** `FrameQueue`: a bounded queue of copies of frames. */
import { Frames } from '@xenkit/frames'

/** Most frames in a queue of this many bytes: as many as are this long. */
const MIN_BYTES_EACH = 128

/**
 * A queue of frames. Frames lie in a ring of memory, none of them across its end. They are taken in
 * two steps: added to a batch, and freed once the batch has been sent.
 */
export class FrameQueue {
  /** Frames in the queue. */
  count = 0
  readonly #slots: Frames
  readonly #memory: Uint8Array
  /** Slot of the first frame. */
  #first = 0
  /** Byte that the last frame ends before. */
  #end = 0

  /** @param bytes size of the memory */
  constructor(bytes: number) {
    this.#memory = new Uint8Array(bytes)
    this.#slots = new Frames(Math.max(1, Math.floor(bytes / MIN_BYTES_EACH)))
  }

  get memory(): Uint8Array {
    return this.#memory
  }

  /** Adds a copy of a frame. Returns false if it finds no room. */
  push(frames: Frames, index: number): boolean {
    const { capacity } = this.#slots
    const length = frames.length[index] ?? 0
    const at = this.#place(length)
    if (at < 0 || this.count === capacity) return false
    const start = frames.start[index] ?? 0
    this.#memory.set(frames.memory.subarray(start, start + length), at)
    const slot = (this.#first + this.count) % capacity
    this.#slots.count = slot
    this.#slots.addFrom(frames, index)
    this.#slots.start[slot] = at
    this.#end = at + length
    this.count++
    return true
  }

  /** Bytes of the frame that is this far behind the first one. */
  lengthOf(behind: number): number {
    return this.#slots.length[this.#slot(behind)] ?? 0
  }

  /** Adds the frame that is this far behind the first one to a batch, which has this memory. */
  addTo(batch: Frames, behind: number): void {
    batch.addFrom(this.#slots, this.#slot(behind))
  }

  /** Removes the first frames. */
  free(frames: number): void {
    this.#first = this.#slot(frames)
    this.count -= frames
  }

  #slot(behind: number): number {
    return (this.#first + behind) % this.#slots.capacity
  }

  /** Where so many bytes are free; -1 if nowhere. */
  #place(bytes: number): number {
    const first = this.#slots.start[this.#first] ?? 0
    if (this.count === 0) return bytes <= this.#memory.length ? 0 : -1
    if (this.#end > first) {
      if (this.#end + bytes <= this.#memory.length) return this.#end
      return bytes <= first ? 0 : -1
    }
    return this.#end + bytes <= first ? this.#end : -1
  }
}
