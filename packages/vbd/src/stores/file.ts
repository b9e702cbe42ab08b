/**
 * A disk image in a file, or a whole block device. Requests become `preadv` and `pwritev` on Node's
 * thread pool; a short transfer is continued, so that a request is done whole or fails.
 */
import { constants, fdatasync, ftruncate, readv, writev } from 'node:fs'
import { open } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expectInteger } from '@xenkit/hypervisor'
import { type BlockStore, MAX_SECTORS } from '../block-store.ts'
import type { StoreBatch, StoreBatchOptions } from '../store-batch.ts'
import { DirectTransfers } from './direct-transfers.ts'
import { ImageError } from './image-error.ts'
import { type ImageGeometry, imageGeometry, unaligned } from './image-geometry.ts'
import { OpenImage, type Vectored, transfer } from './open-image.ts'
import { Size } from './size.ts'

/** Gives up a range of an open file, which then reads as zeroes, or of a block device. */
export type DiscardRange = (fd: number, offset: number, length: number) => Promise<void>

/** Opens a batch of reads and writes of an open file, which it keeps for itself. Undefined where there is none for the memory. */
export type OpenFileBatch = (o: StoreBatchOptions & { readonly fd: number; readonly direct: boolean }) => StoreBatch | undefined

export interface FileStoreOptions {
  /** Serve the image read-only; a file that can't be written is otherwise refused. Default false. */
  readonly readOnly?: boolean
  /** Past the page cache (O_DIRECT): for images larger than memory, or on a device with a cache of its own. Default false. */
  readonly direct?: boolean
  /** Node has no call for it: `xenkit`'s `openFileStore` brings the addon's. Without it the store offers no discard. */
  readonly discardRange?: DiscardRange
  /** Moves data without Node's thread pool. `xenkit`'s `openFileStore` brings the addon's. */
  readonly openFileBatch?: OpenFileBatch
}

export interface FileStore extends BlockStore, AsyncDisposable {
  readonly path: string
  /** Cuts the image, or lengthens it by a hole. @throws ImageError for a block device, and for an image that is served read-only */
  resize(sectors: number): Promise<void>
  /** Looks up the size, which somebody else may have changed: nothing does so by itself. */
  refresh(): Promise<void>
  /** Closes the file once what is in flight is done. Idempotent; later calls of the store reject. */
  close(): Promise<void>
}

const advice: Partial<Record<string, string>> = {
  ENOENT: 'there is no such file: check the path',
  EACCES: 'this user may not open it: change its mode, run as another user, or serve it read-only',
  EPERM: 'this user may not open it: change its mode, run as another user, or serve it read-only',
  EROFS: 'it lies on a read-only file system: serve it read-only',
  EINVAL: 'its file system has no O_DIRECT, serve it without "direct"',
  EISDIR: 'it is a directory: name a disk image or a block device',
}

/**
 * Opens an image for `serveVbd`.
 * @throws ImageError when it can't be opened, isn't a file or block device, is empty, or isn't a
 *   multiple of its sectors long: the text says what to do.
 */
export async function openFileStore(path: string, o: FileStoreOptions = {}): Promise<FileStore> {
  const { readOnly = false, direct = false, discardRange, openFileBatch } = o
  // O_NONBLOCK changes nothing for images. A fifo would otherwise hold a thread of the pool until somebody writes to it.
  const flags = (readOnly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK | (direct ? constants.O_DIRECT : 0)
  const file = await open(path, flags).catch((cause: NodeJS.ErrnoException) => {
    const errno = cause.code ?? 'EIO'
    throw new ImageError(`image "${path}" can't be opened: ${advice[errno] ?? errno}`, { path, errno }, { cause })
  })
  try {
    const image = new OpenImage(file, path)
    const geometry = await imageGeometry(file, path)
    const transfers = direct ? new DirectTransfers(image) : undefined
    const sectorSize = (await transfers?.unit(geometry.sectors * 512)) ?? 512
    expectWholeSectors(path, geometry.sectors, sectorSize)
    const discard = readOnly || discardRange === undefined ? undefined : await discardOf(image, geometry, sectorSize, discardRange)
    return fileStore({ image, geometry, readOnly, direct, sectorSize, transfers: transfers ?? cachedTransfers(image), discard, openFileBatch })
  } catch (error) {
    await file.close()
    throw error
  }
}

function expectWholeSectors(path: string, sectors: number, sectorSize: number): void {
  if (sectors % (sectorSize / 512) !== 0) throw unaligned(path, sectors * 512, sectorSize)
}

type Discard = Required<Pick<BlockStore, 'discard' | 'discardLimits'>>

/** Undefined where it isn't known to work: what is offered to a guest should. */
async function discardOf(image: OpenImage, { blockDevice, sectors, discardLimits }: ImageGeometry, sectorSize: number, discardRange: DiscardRange): Promise<Discard | undefined> {
  if (discardLimits === undefined) return undefined
  const { granularity, alignment, secure } = discardLimits
  // Linux says -1 of a device that begins within a granule of the one beneath.
  const whole = { granularity: Math.max(granularity, sectorSize), alignment: alignment > 0 && alignment % sectorSize === 0 ? alignment : 0, secure }
  const discard = (sector: number, count: number): Promise<void> => image.use((fd) => discardRange(fd, sector * 512, count * 512))
  const discards: Discard = { discard, discardLimits: whole }
  if (blockDevice) return discards
  // Past the end there is nothing to lose. A file system without holes refuses all the same.
  return discard(sectors, 8).then(
    () => discards,
    () => undefined,
  )
}

interface Transfers {
  read(into: Uint8Array[], position: number): Promise<void>
  write(from: Uint8Array[], position: number): Promise<void>
}

function cachedTransfers(image: OpenImage): Transfers {
  const move =
    (call: Vectored) =>
    (buffers: Uint8Array[], position: number): Promise<void> =>
      image.use((fd) => transfer(call, { fd, path: image.path }, buffers, position))
  return { read: move(readv), write: move(writev) }
}

interface FileStoreParts {
  readonly image: OpenImage
  readonly geometry: ImageGeometry
  readonly readOnly: boolean
  readonly direct: boolean
  readonly sectorSize: 512 | 4096
  readonly transfers: Transfers
  readonly discard: Discard | undefined
  readonly openFileBatch: OpenFileBatch | undefined
}

function fileStore({ image, geometry, readOnly, direct, sectorSize, transfers, discard, openFileBatch }: FileStoreParts): FileStore {
  const { path } = image
  const size = new Size(geometry.sectors)
  const store: FileStore = {
    path,
    get sectors() {
      return size.sectors
    },
    sectorSize,
    physicalSectorSize: Math.max(geometry.physicalSectorSize, sectorSize),
    onResize: size.onResize,
    read: (sector, into) => transfers.read(into, sector * 512),
    ...(readOnly ? {} : { write: (sector: number, from: Uint8Array[]) => transfers.write(from, sector * 512), flush: () => image.use(promisify(fdatasync)) }),
    ...discard,
    ...(openFileBatch && {
      // Of an object that has this store's members and a `read` of its own, that is to be called.
      openBatch(this: unknown, o: StoreBatchOptions) {
        return this === store ? openFileBatch({ ...o, fd: image.file.fd, direct }) : undefined
      },
    }),
    async resize(sectors) {
      expectInteger('sectors', sectors, 1, MAX_SECTORS)
      if (sectors % (sectorSize / 512) !== 0) throw new RangeError(`"sectors" expected a multiple of ${sectorSize / 512}, got ${sectors}`)
      if (readOnly || geometry.blockDevice) throw new ImageError(`image "${path}" can't be resized: it is ${readOnly ? 'served read-only' : 'a block device'}`, { path })
      // Shrinking is told of first: nobody should ask for what is about to go.
      if (sectors < size.sectors) size.change(sectors)
      await image.use((fd) => promisify(ftruncate)(fd, sectors * 512))
      size.change(sectors)
    },
    async refresh() {
      const { sectors } = await imageGeometry(image.file, path)
      expectWholeSectors(path, sectors, sectorSize)
      size.change(sectors)
    },
    close: () => image.close(),
    [Symbol.asyncDispose]: () => image.close(),
  }
  return store
}
