/** `PasstReceiver`: takes a stream of frames apart, and sends them to a card. */
import { Frames, FrameSender, type LinkEnd, MAX_FRAME, MIN_FRAME } from '@xenkit/frames'
import { u32 } from './bytes.ts'

/** Bytes of the length before a frame, most significant first. */
const LENGTH_BYTES = 4
/** Frames of a batch. */
const BATCH = 64

/** Frames lie in the chunks in which they come; only those that two chunks share are copied. */
export class PasstReceiver {
  readonly #sender: FrameSender
  readonly #frames = new Frames(BATCH)
  /** Begins with the first bytes of a frame whose rest is yet to come, with the frame's length. */
  readonly #rest = new Uint8Array(LENGTH_BYTES + MAX_FRAME)
  #restBytes = 0

  constructor(card: LinkEnd) {
    this.#sender = new FrameSender(card)
  }

  /** @returns false if the bytes can't be frames, after which the stream has no meaning */
  receive(chunk: Uint8Array): boolean {
    let at = 0
    // The first turn learns the frame's length, unless it is known.
    while (this.#restBytes > 0) {
      const missing = this.#missing()
      if (missing < 0) return false
      const taken = chunk.subarray(at, at + missing)
      this.#rest.set(taken, this.#restBytes)
      this.#restBytes += taken.length
      at += taken.length
      if (taken.length < missing) return true
      if (this.#missing() === 0) {
        this.#frames.reset(this.#rest)
        this.#add(LENGTH_BYTES, this.#restBytes - LENGTH_BYTES)
        this.#send()
        this.#restBytes = 0
      }
    }
    this.#frames.reset(chunk)
    while (at + LENGTH_BYTES <= chunk.length) {
      const length = u32(chunk, at)
      if (!isLength(length)) return false
      const next = at + LENGTH_BYTES + length
      if (next > chunk.length) break
      this.#add(at + LENGTH_BYTES, length)
      at = next
    }
    this.#send()
    this.#rest.set(chunk.subarray(at))
    this.#restBytes = chunk.length - at
    return true
  }

  /** Bytes that complete the frame's length or, once that is known, the frame; -1: no frame. */
  #missing(): number {
    if (this.#restBytes < LENGTH_BYTES) return LENGTH_BYTES - this.#restBytes
    const length = u32(this.#rest, 0)
    return isLength(length) ? LENGTH_BYTES + length - this.#restBytes : -1
  }

  #add(start: number, length: number): void {
    const frames = this.#frames
    if (frames.count === frames.capacity) this.#send()
    const i = frames.count++
    frames.start[i] = start
    frames.length[i] = length
  }

  #send(): void {
    if (this.#frames.count > 0) this.#sender.send(this.#frames)
    this.#frames.reset()
  }
}

const isLength = (length: number): boolean => length >= MIN_FRAME && length <= MAX_FRAME
