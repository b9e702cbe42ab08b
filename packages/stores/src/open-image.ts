/** An open image file, and transfers from and to it that move all bytes. */
import type { FileHandle } from 'node:fs/promises'
import { slice } from './buffers.ts'
import { ImageError } from './image-error.ts'

/** `readv` and `writev` of node:fs. */
export type Vectored = (
  fd: number,
  buffers: Uint8Array[],
  position: number,
  done: (error: NodeJS.ErrnoException | null, bytes: number) => void,
) => void

type OpenFile = Pick<FileHandle, 'fd' | 'close'>

/**
 * A file that closes only when no call uses it: a descriptor that is closed earlier may by then be
 * another file's.
 */
export class OpenImage {
  readonly path: string
  readonly file: OpenFile
  #users = 0
  #unused: (() => void) | undefined
  #closed: Promise<void> | undefined

  constructor(file: OpenFile, path: string) {
    this.file = file
    this.path = path
  }

  async use(work: (fd: number) => Promise<void>): Promise<void> {
    if (this.#closed) throw new ImageError(`image "${this.path}" is closed`, { path: this.path })
    this.#users++
    try {
      await work(this.file.fd)
    } finally {
      if (--this.#users === 0) this.#unused?.()
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    if (this.#users > 0) await new Promise<void>((resolve) => (this.#unused = resolve))
    await this.file.close()
  }
}

/**
 * Moves all the bytes, in as many calls as that takes. The callback API takes half the time of
 * FileHandle's promises: 9 us in place of 19 for 4 KiB from the page cache, with 32 calls in flight
 * (Node 20). With one in flight both take the same time.
 */
export const transfer = (
  call: Vectored,
  o: { readonly fd: number; readonly path: string },
  buffers: Uint8Array[],
  position: number,
): Promise<void> =>
  new Promise((resolve, reject) => {
    const step = (pending: Uint8Array[], at: number): void => {
      call(o.fd, pending, at, (error, bytes) => {
        if (error) return reject(error)
        const rest = slice(pending, bytes)
        if (rest.length === 0) return resolve()
        if (bytes === 0) {
          return reject(
            new ImageError(
              `image "${o.path}" ended at byte ${at}: it was truncated while being served`,
              { path: o.path },
            ),
          )
        }
        step(rest, at + bytes)
      })
    }
    step(buffers, position)
  })
