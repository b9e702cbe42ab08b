/**
 * Frames that wait for a guest, in private memory. The guest decides how long they wait, so the
 * queue is bounded: 1 MiB. netback asks its link to pause at 512 KiB, half a ring of pages. The
 * other half is for frames that the link sends all the same.
 *
 * Frames lie in chunks of 64 KiB, one behind another. Chunks are taken when needed and returned as
 * they empty, so an idle queue has none.
 */
import type { Buffer, ExtentSizes, PagePool } from '@xenkit/backend'
import { Frames } from '@xenkit/frames'
import { ArenaFullError, PAGE_SIZE } from '@xenkit/hypervisor'
import { type FrameHashes, NO_HASH } from './rx-packets.ts'

/** Pages of a chunk: the longest frame fits. */
const CHUNK_PAGES = 16
/** Most chunks of a queue. */
const MAX_CHUNKS = 16
/** Most frames of a chunk: a chunk full of the shortest Ethernet frames. */
const CHUNK_FRAMES = 1024

/** Extents of a queue's pool: one chunk is enough for a guest that falls behind rarely. */
export const RX_EXTENTS: ExtentSizes = {
  small: CHUNK_PAGES,
  large: CHUNK_PAGES * (MAX_CHUNKS - 1),
  maxLarge: 1,
}

/** Waiting frames of one chunk. */
export class RxChunk {
  readonly frames = new Frames(CHUNK_FRAMES)
  readonly hashes: FrameHashes = {
    type: new Uint8Array(CHUNK_FRAMES),
    value: new Uint32Array(CHUNK_FRAMES),
  }
  /** When each frame was queued, in milliseconds modulo 2^32. */
  readonly since = new Uint32Array(CHUNK_FRAMES)
  /** Index of the oldest frame that still waits. */
  next = 0
  /** First unused byte of the memory, and its end. */
  free = 0
  end = 0
  buffer: Buffer | undefined
}

/** The frames that wait for one queue of a guest. */
export class RxQueue {
  readonly #pool: PagePool
  readonly #memory: Uint8Array
  readonly #chunks: RxChunk[] = []
  /** Chunks whose frames no longer wait, but whose memory is still read. */
  readonly #done: RxChunk[] = []
  /** Chunks without memory, kept for reuse. */
  readonly #spare: RxChunk[] = []
  /** Identifies this queue to the pool. The queue never waits: it drops frames instead. */
  readonly #wake = (): void => {}

  /**
   * @param o.pool has extents of RX_EXTENTS
   * @param o.memory the whole arena
   */
  constructor(o: { readonly pool: PagePool; readonly memory: Uint8Array }) {
    this.#pool = o.pool
    this.#memory = o.memory
  }

  /** The chunk with the oldest frame, undefined if no frame waits. */
  get oldest(): RxChunk | undefined {
    return this.#chunks[0]
  }

  get isHalfFull(): boolean {
    return this.#chunks.length > MAX_CHUNKS / 2
  }

  /**
   * Copies a frame to the end of the queue.
   * @param now in milliseconds modulo 2^32
   * @returns false if there is no room
   */
  add(frames: Frames, i: number, now: number, hashes?: FrameHashes): boolean {
    const length = frames.length[i] ?? 0
    const chunk = this.#chunkFor(length)
    if (!chunk) return false
    const { frames: own } = chunk
    const { memory } = frames
    const from = frames.start[i] ?? 0
    if (memory.buffer === this.#memory.buffer) {
      const start = memory.byteOffset - this.#memory.byteOffset + from
      this.#memory.copyWithin(chunk.free, start, start + length)
    } else {
      // A view for each frame, some 100 bytes of heap: JavaScript can't copy a part without.
      this.#memory.set(memory.subarray(from, from + length), chunk.free)
    }
    const at = own.count
    own.addFrom(frames, i)
    own.start[at] = chunk.free
    chunk.free += length
    chunk.since[at] = now
    chunk.hashes.type[at] = hashes?.type[i] ?? NO_HASH
    chunk.hashes.value[at] = hashes?.value[i] ?? 0
    return true
  }

  /** Removes the oldest chunk, whose frames no longer wait. Its memory stays until `release`. */
  shift(): void {
    const chunk = this.#chunks.shift()
    if (chunk) this.#done.push(chunk)
  }

  /** Returns the memory of removed chunks. */
  release(): void {
    for (let chunk; (chunk = this.#done.pop()) !== undefined; this.#spare.push(chunk)) {
      if (chunk.buffer) this.#pool.give(chunk.buffer)
      chunk.buffer = undefined
    }
  }

  /** Removes all frames. @returns how many waited */
  clear(): number {
    let count = 0
    for (let chunk; (chunk = this.oldest) !== undefined; this.shift()) {
      count += chunk.frames.count - chunk.next
    }
    this.release()
    return count
  }

  /** Forgets chunks that were kept for reuse: 28 KiB each. */
  trim(): void {
    this.#spare.length = 0
  }

  #chunkFor(length: number): RxChunk | undefined {
    const last = this.#chunks.at(-1)
    if (last && last.free + length <= last.end && last.frames.count < CHUNK_FRAMES) return last
    const buffer = this.#takeBuffer()
    if (!buffer) return undefined
    const chunk = this.#spare.pop() ?? new RxChunk()
    chunk.buffer = buffer
    chunk.next = 0
    chunk.free = buffer.extent.byteOffset(buffer.first)
    chunk.end = chunk.free + CHUNK_PAGES * PAGE_SIZE
    chunk.frames.reset(this.#memory)
    this.#chunks.push(chunk)
    return chunk
  }

  #takeBuffer(): Buffer | undefined {
    if (this.#chunks.length === MAX_CHUNKS) return undefined
    try {
      const buffer = this.#pool.take(CHUNK_PAGES * PAGE_SIZE, this.#wake)
      if (!buffer) this.#pool.forget(this.#wake)
      return buffer
    } catch (error) {
      if (error instanceof ArenaFullError) return undefined
      throw error
    }
  }
}
