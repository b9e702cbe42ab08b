/** `Spool`: a bounded buffer before a stream, for a writer that must not wait. */
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'

/** Bytes of a chunk: room for the block of any frame. */
const CHUNK_BYTES = 128 * 1024
/** Smallest buffer: a chunk to fill while another one is written. */
export const MIN_BUFFER_BYTES = 2 * CHUNK_BYTES
/** Longest wait in `close` for a stream that takes nothing. */
const CLOSE_MS = 5000

/** A piece of the buffer. */
export interface Chunk {
  readonly bytes: Uint8Array
  readonly view: DataView
  used: number
}

/** A bounded buffer. One chunk at a time is with the stream, so a slow one gets few long writes. */
export class Spool {
  readonly #sink: Writable
  readonly #onError: ((error: Error) => void) | undefined
  /** Chunks that may still be allocated. */
  #unused: number
  readonly #free: Chunk[] = []
  readonly #full: Chunk[] = []
  #current: Chunk | undefined
  #isWriting = false
  #scheduled: NodeJS.Immediate | undefined
  #error: Error | undefined
  #isClosed = false

  /** @param bytes size of the buffer, MIN_BUFFER_BYTES at least */
  constructor(sink: Writable, bytes: number, onError?: (error: Error) => void) {
    this.#sink = sink
    this.#onError = onError
    this.#unused = Math.floor(bytes / CHUNK_BYTES)
    sink.on('error', (error) => this.#fail(error))
  }

  /**
   * Returns a chunk with room for this many bytes from `used` on, and takes them. Returns undefined
   * if the buffer is full, or the stream has failed.
   */
  take(bytes: number): Chunk | undefined {
    if (this.#error || this.#isClosed) return undefined
    if (this.#current && this.#current.used + bytes > CHUNK_BYTES) {
      this.#full.push(this.#current)
      this.#current = undefined
    }
    const chunk = (this.#current ??= this.#free.pop() ?? this.#allocate())
    if (!chunk) return undefined
    chunk.used += bytes
    if (!this.#isWriting) this.#scheduled ??= setImmediate(() => this.#write())
    return chunk
  }

  /** Adds bytes. Returns false if there is no room. */
  add(bytes: Uint8Array): boolean {
    const chunk = this.take(bytes.length)
    chunk?.bytes.set(bytes, chunk.used - bytes.length)
    return chunk !== undefined
  }

  /**
   * Writes what is left, and ends the stream. `last` is written even if there is no room.
   * @throws Error that the stream failed with, or if it takes nothing for 5 s
   */
  async close(last: Uint8Array): Promise<void> {
    this.#isClosed = true
    clearImmediate(this.#scheduled)
    const left = [...this.#full, ...(this.#current ? [this.#current] : [])]
    for (const { bytes, used } of left) this.#sink.write(bytes.subarray(0, used))
    this.#sink.end(last)
    const timer = setTimeout(() => {
      this.#sink.destroy(new Error(`the stream of the capture took nothing for ${CLOSE_MS} ms`))
    }, CLOSE_MS)
    try {
      await finished(this.#sink, { readable: false })
    } finally {
      clearTimeout(timer)
    }
  }

  #allocate(): Chunk | undefined {
    if (this.#unused === 0) return undefined
    this.#unused--
    const bytes = new Uint8Array(CHUNK_BYTES)
    return { bytes, view: new DataView(bytes.buffer), used: 0 }
  }

  #write(): void {
    this.#scheduled = undefined
    const chunk = this.#full.shift() ?? this.#current
    if (!chunk || this.#isClosed) return
    if (chunk === this.#current) this.#current = undefined
    this.#isWriting = true
    // A copy, since a stream may keep what it has written: a PassThrough does until it is read.
    this.#sink.write(chunk.bytes.slice(0, chunk.used), (error) => {
      this.#isWriting = false
      if (error) return this.#fail(error)
      chunk.used = 0
      this.#free.push(chunk)
      this.#write()
    })
  }

  #fail(error: Error): void {
    if (this.#error) return
    this.#error = error
    this.#onError?.(error)
  }
}
