/**
 * Transfers past the page cache (O_DIRECT). The kernel requires aligned memory, but JavaScript
 * can't see a buffer's address. So the bytes are copied through growable buffers: V8 reserves whole
 * pages for those, so they start at a page. Opening an image checks this, by reading into one.
 */
import { byteLength } from '@xenkit/block-store'
import { readv, writev } from 'node:fs'
import { gather, scatter, slice } from './buffers.ts'
import { ImageError } from './image-error.ts'
import { type OpenImage, type Vectored, transfer } from './open-image.ts'

const PIECE = 512 * 1024
/**
 * Buffers for direct transfers: twice the threads of Node's pool. Further transfers wait for a
 * buffer.
 */
const PIECES = 8

export class DirectTransfers {
  readonly #image: OpenImage
  readonly #free: Uint8Array[]
  readonly #waiting: ((piece: Uint8Array) => void)[] = []

  constructor(image: OpenImage) {
    this.#image = image
    // Memory is committed on first use; the piece freed last is reused first.
    const buffer = new SharedArrayBuffer(PIECES * PIECE, { maxByteLength: PIECES * PIECE })
    this.#free = Array.from({ length: PIECES }, (_, i) => new Uint8Array(buffer, i * PIECE, PIECE))
  }

  /**
   * The unit of sizes and positions that the image accepts, found by trying reads.
   * @throws ImageError if it accepts no direct read
   */
  async unit(bytes: number): Promise<512 | 4096> {
    for (const unit of [512, 4096] as const) {
      const position = bytes >= 2 * unit ? unit : 0
      const error: unknown = await this.read(
        [new Uint8Array(Math.min(unit, bytes))],
        position,
      ).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      if (error === undefined) return unit
      if (!(error instanceof Error && 'code' in error && error.code === 'EINVAL')) throw error
    }
    const { path } = this.#image
    throw new ImageError(
      `image "${path}" can't be read past the page cache: its file system has no O_DIRECT, serve it without "direct"`,
      { path, errno: 'EINVAL' },
    )
  }

  read(into: readonly Uint8Array[], position: number): Promise<void> {
    return this.#inPieces(into, position, async (fd, memory, part, at) => {
      await this.#transfer(readv, fd, memory, at)
      scatter(memory, part)
    })
  }

  write(from: readonly Uint8Array[], position: number): Promise<void> {
    return this.#inPieces(from, position, (fd, memory, part, at) => {
      gather(part, memory)
      return this.#transfer(writev, fd, memory, at)
    })
  }

  #inPieces(
    buffers: readonly Uint8Array[],
    position: number,
    move: (fd: number, memory: Uint8Array, part: Uint8Array[], at: number) => Promise<void>,
  ): Promise<void> {
    return this.#image.use(async (fd) => {
      const total = byteLength(buffers)
      for (let at = 0; at < total; at += PIECE) {
        const part = slice(buffers, at, PIECE)
        const piece = await this.#take()
        try {
          await move(fd, piece.subarray(0, Math.min(PIECE, total - at)), part, position + at)
        } finally {
          this.#give(piece)
        }
      }
    })
  }

  #transfer(call: Vectored, fd: number, memory: Uint8Array, at: number): Promise<void> {
    return transfer(call, { fd, path: this.#image.path }, [memory], at)
  }

  async #take(): Promise<Uint8Array> {
    return this.#free.pop() ?? new Promise((resolve) => this.#waiting.push(resolve))
  }

  #give(piece: Uint8Array): void {
    const next = this.#waiting.shift()
    if (next) next(piece)
    else this.#free.push(piece)
  }
}
