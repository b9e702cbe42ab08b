/**
 * A disk image in a file, or a whole block device. Requests become `preadv` and `pwritev` on Node's
 * thread pool; a short transfer is continued, so that a request is done whole or fails.
 */
import { constants, fdatasync, readv, writev } from 'node:fs'
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { XenError } from '@xenkit/hypervisor'
import type { BlockStore } from '../block-store.ts'

export interface FileStoreOptions {
  /** Serve the image read-only; a file that can't be written is otherwise refused. Default false. */
  readonly readOnly?: boolean
}

export interface FileStore extends BlockStore, AsyncDisposable {
  readonly path: string
  /** Closes the file. Call it when no request is in flight: after `serveVbd` has returned. */
  close(): Promise<void>
}

/** The image can't be served. `details` has the path and the errno name, where there is one. */
export class ImageError extends XenError {
  constructor(message: string, details: { readonly path: string; readonly errno?: string }, options?: ErrorOptions) {
    super('ERR_XEN_IMAGE', message, details, options)
  }
}

const advice: Partial<Record<string, string>> = {
  ENOENT: 'there is no such file: check the path',
  EACCES: 'this user may not open it: change its mode, run as another user, or serve it read-only',
  EPERM: 'this user may not open it: change its mode, run as another user, or serve it read-only',
  EROFS: 'it lies on a read-only file system: serve it read-only',
  EISDIR: 'it is a directory: name a disk image or a block device',
}

/**
 * Opens an image for `serveVbd`.
 * @throws ImageError when it can't be opened, isn't a file or block device, is empty, or isn't a
 *   multiple of 512 bytes long: the text says what to do.
 */
export async function openFileStore(path: string, o: FileStoreOptions = {}): Promise<FileStore> {
  const file = await open(path, o.readOnly ? constants.O_RDONLY : constants.O_RDWR).catch((cause: NodeJS.ErrnoException) => {
    const errno = cause.code ?? 'EIO'
    throw new ImageError(`image "${path}" can't be opened: ${advice[errno] ?? errno}`, { path, errno }, { cause })
  })
  try {
    const sectors = await sectorsOf(file, path)
    return fileStore(file, path, sectors, o.readOnly ?? false)
  } catch (error) {
    await file.close()
    throw error
  }
}

async function sectorsOf(file: FileHandle, path: string): Promise<number> {
  const stat = await file.stat()
  if (stat.isDirectory()) throw new ImageError(`image "${path}" can't be served: ${advice.EISDIR}`, { path, errno: 'EISDIR' })
  if (stat.isBlockDevice()) {
    // A block device's st_size is 0; sysfs tells its size, in units of 512 bytes whatever its sectors are.
    const [major, minor] = [(stat.rdev >> 8) & 0xfff, (stat.rdev & 0xff) | ((stat.rdev >> 12) & 0xfff00)]
    return Number(await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8'))
  }
  if (!stat.isFile()) throw new ImageError(`image "${path}" can't be served: it is neither a file nor a block device`, { path })
  if (stat.size === 0) throw new ImageError(`image "${path}" is empty: make it with truncate -s 1G "${path}"`, { path })
  if (stat.size % 512 !== 0) {
    const padded = Math.ceil(stat.size / 512) * 512
    throw new ImageError(`image "${path}" is ${stat.size} bytes long, not a multiple of 512: pad it with truncate -s ${padded} "${path}"`, { path })
  }
  return stat.size / 512
}

type Vectored = (fd: number, buffers: Uint8Array[], position: number, done: (error: NodeJS.ErrnoException | null, bytes: number) => void) => void

function fileStore(file: FileHandle, path: string, sectors: number, readOnly: boolean): FileStore {
  const { fd } = file
  const store = {
    path,
    sectors,
    read: (sector: number, into: Uint8Array[]) => transfer(readv, fd, into, sector * 512, path),
    close: () => file.close(),
    [Symbol.asyncDispose]: () => file.close(),
  }
  if (readOnly) return store
  return {
    ...store,
    write: (sector: number, from: Uint8Array[]) => transfer(writev, fd, from, sector * 512, path),
    flush: () => new Promise<void>((resolve, reject) => fdatasync(fd, (error) => (error ? reject(error) : resolve()))),
  }
}

/** Moves all the bytes, however many calls that takes. The callback form costs a third of FileHandle's promises. */
function transfer(call: Vectored, fd: number, buffers: Uint8Array[], position: number, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const step = (pending: Uint8Array[], at: number): void => {
      call(fd, pending, at, (error, bytes) => {
        if (error) return reject(error)
        const rest = skip(pending, bytes)
        if (rest.length === 0) return resolve()
        if (bytes === 0) return reject(new ImageError(`image "${path}" ended at byte ${at}: it was truncated while being served`, { path }))
        step(rest, at + bytes)
      })
    }
    step(buffers, position)
  })
}

/** What is left of the buffers after the first `bytes`. */
function skip(buffers: Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes
  let first = 0
  for (let buffer = buffers[first]; buffer !== undefined && left >= buffer.length; buffer = buffers[++first]) left -= buffer.length
  const rest = buffers.slice(first)
  if (left > 0 && rest[0] !== undefined) rest[0] = rest[0].subarray(left)
  return rest
}
