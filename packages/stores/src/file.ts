/**
 * A disk image in a file, or a whole block device. Requests become `preadv` and `pwritev` on Node's
 * thread pool, unless there is a batch. Short transfers are continued: a request completes whole or
 * fails.
 */
import { constants, ftruncate } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expectInteger } from '@xenkit/hypervisor'
import {
  type BlockStore,
  type DiscardLimits,
  MAX_SECTORS,
  type SectorSize,
  type SharedStore,
  hintedDiscardLimits,
  hintedPhysicalSize,
} from '@xenkit/block-store'
import { DirectTransfers } from './direct-transfers.ts'
import { ImageError } from './image-error.ts'
import { expectRaw, rememberRaw } from './image-format.ts'
import { type ImageGeometry, imageGeometry, unaligned } from './image-geometry.ts'
import { lockImage } from './image-locks.ts'
import {
  type DiscardRange,
  type FileCalls,
  type ImageFacts,
  type SharedImage,
  imageStore,
} from './image-store.ts'
import { OpenImage } from './open-image.ts'
import { Size } from './size.ts'

/** How `openFileStore` of xenkit opens an image. */
export interface FileStoreOptions {
  /**
   * Open the image for reading only. Else a file that can't be written is refused. Default false.
   */
  readonly readOnly?: boolean
  /**
   * Bypass the page cache (O_DIRECT), for images larger than memory or on a device with a cache of
   * its own. Default false.
   */
  readonly direct?: boolean
  /**
   * Serve the image as raw, whatever it contains. Without this, an image that looks like qcow2,
   * VHD, VHDX, VMDK, VDI or LUKS is refused for writing, unless a guest of this process wrote that
   * header.
   */
  readonly format?: 'raw'
  /**
   * Lock the image until `close`, by QEMU's scheme. Other stores, QEMU, qemu-nbd and qemu-img then
   * can't write to an image that this store uses, nor use one that it writes to. A block device is
   * opened exclusively for writing (O_EXCL): not while it is mounted or part of another device.
   * Default true; without the addon there is O_EXCL alone.
   */
  readonly locking?: boolean
}

/** An open image. Stopping a disk that it serves doesn't close it: call `close`. */
export interface FileStore extends BlockStore, AsyncDisposable {
  readonly path: string
  /**
   * Cuts the image, or lengthens it by a hole.
   * @throws ImageError for a block device, and for an image opened with `readOnly`
   */
  resize(sectors: number): Promise<void>
  /**
   * Reads the image's size again, after another program has changed it. Nothing does so
   * automatically.
   */
  refresh(): Promise<void>
  /**
   * Closes the file once all calls have settled and no other thread serves it. Idempotent; later
   * calls of the store reject.
   */
  close(): Promise<void>
}

const advice: Partial<Record<string, string>> = {
  ENOENT: 'there is no such file: check the path',
  EACCES: 'this user may not open it: change its mode, run as another user, or serve it read-only',
  EPERM: 'this user may not open it: change its mode, run as another user, or serve it read-only',
  EROFS: 'it lies on a read-only file system: serve it read-only',
  EINVAL: 'its file system has no O_DIRECT, serve it without "direct"',
  EISDIR: 'it is a directory: name a disk image or a block device',
  EBUSY: 'a mount or another device has it to itself: end that, or serve it without "locking"',
}

const UNREADABLE = 'this user may not read it: change its mode or run as another user'
const readAdvice: typeof advice = { ...advice, EACCES: UNREADABLE, EPERM: UNREADABLE }

/**
 * Opens an image as `openFileStore` of xenkit does, with the given calls in place of the addon's.
 * @throws ImageError if it can't be opened, isn't a file or block device, is empty, isn't a
 *   multiple of its sectors long, is in use, or is a container: the text says what to do.
 */
export async function openFileStoreWith(
  calls: FileCalls,
  path: string,
  o: FileStoreOptions = {},
): Promise<FileStore> {
  const { readOnly = false, direct = false, format, locking = true } = o
  const { discardRange, lockBytes } = calls
  // O_NONBLOCK has no effect on images. But opening a fifo without it would block a thread of
  // Node's pool until somebody writes to the fifo.
  const alone = locking && !readOnly && (await isBlockDevice(path))
  const { O_RDONLY, O_RDWR, O_NONBLOCK, O_DIRECT, O_EXCL } = constants
  const access = (readOnly ? O_RDONLY : O_RDWR) | (alone ? O_EXCL : 0)
  const flags = access | O_NONBLOCK | (direct ? O_DIRECT : 0)
  const file = await open(path, flags).catch((cause: NodeJS.ErrnoException) => {
    const errno = cause.code ?? 'EIO'
    const what = (readOnly ? readAdvice : advice)[errno] ?? errno
    throw new ImageError(`image "${path}" can't be opened: ${what}`, { path, errno }, { cause })
  })
  try {
    const image = new OpenImage(readOnly ? file : rememberedAtClose(file, path), path)
    const geometry = await imageGeometry(file, path)
    if (locking && lockBytes) await lockImage(lockBytes, file, { path, readOnly })
    if (!readOnly && format !== 'raw') await expectRaw(file, path, geometry.sectors)
    const sectorSize = direct ? await new DirectTransfers(image).unit(geometry.sectors * 512) : 512
    expectWholeSectors(path, geometry.sectors, sectorSize)
    const discardLimits =
      readOnly || discardRange === undefined
        ? undefined
        : await discardLimitsOf(image, geometry, sectorSize, discardRange)
    const physicalSectorSize = hintedPhysicalSize(geometry.physicalSectorSize, sectorSize)
    const facts: ImageFacts = { readOnly, direct, sectorSize, physicalSectorSize, discardLimits }
    return fileStore({ file, image, geometry, facts, calls })
  } catch (error) {
    await file.close()
    throw error
  }
}

const rememberedAtClose = (file: FileHandle, path: string): Pick<FileHandle, 'fd' | 'close'> => ({
  fd: file.fd,
  async close() {
    // If the image can't be read now, its next opening checks its header like any other image's.
    await rememberRaw(file, path).catch(() => {})
    await file.close()
  },
})

/** Whether O_EXCL should be used: without O_CREAT it affects block devices only. */
const isBlockDevice = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isBlockDevice(),
    () => false,
  )

function expectWholeSectors(path: string, sectors: number, sectorSize: number): void {
  if (sectors % (sectorSize / 512) !== 0) throw unaligned(path, sectors * 512, sectorSize)
}

async function discardLimitsOf(
  image: OpenImage,
  { blockDevice, sectors, discardLimits }: ImageGeometry,
  sectorSize: SectorSize,
  discardRange: DiscardRange,
): Promise<DiscardLimits | undefined> {
  if (discardLimits === undefined) return undefined
  const { granularity, alignment, secure } = discardLimits
  // Linux reports -1 as alignment if a partition starts within a granule of the disk below.
  const hint = {
    granularity: Math.max(granularity, sectorSize),
    alignment: alignment > 0 && alignment % sectorSize === 0 ? alignment : 0,
    secure,
  }
  const whole = hintedDiscardLimits(hint, sectorSize)
  if (blockDevice) return whole
  // A trial past the end loses no data, and fails on a file system without holes.
  return image
    .use((fd) => discardRange(fd, sectors * 512, 4096))
    .then(
      () => whole,
      () => undefined,
    )
}

interface FileStoreParts {
  readonly file: FileHandle
  readonly image: OpenImage
  readonly geometry: ImageGeometry
  readonly facts: ImageFacts
  readonly calls: FileCalls
}

function fileStore({ file, image, geometry, facts, calls }: FileStoreParts): FileStore {
  const { path } = image
  const { readOnly, sectorSize } = facts
  const { shareBy } = calls
  const size = new Size(geometry.sectors)
  const store: FileStore = Object.assign(imageStore(image, size, facts, calls), {
    path,
    onResize: size.onResize,
    async resize(sectors: number) {
      expectInteger('sectors', sectors, 1, MAX_SECTORS)
      if (sectors % (sectorSize / 512) !== 0) {
        throw new RangeError(`"sectors" expected a multiple of ${sectorSize / 512}, got ${sectors}`)
      }
      if (readOnly || geometry.blockDevice) {
        throw new ImageError(
          `image "${path}" can't be resized: it is ${readOnly ? 'served read-only' : 'a block device'}`,
          { path },
        )
      }
      // Announce a smaller size before cutting, so that nobody requests what is about to go.
      if (sectors < size.sectors) size.change(sectors)
      await image.use((fd) => promisify(ftruncate)(fd, sectors * 512))
      size.change(sectors)
    },
    async refresh() {
      const { sectors } = await imageGeometry(file, path)
      expectWholeSectors(path, sectors, sectorSize)
      size.change(sectors)
    },
    share(this: unknown) {
      return this === store && shareBy ? shareImage(image, facts, shareBy()) : undefined
    },
    close: () => image.close(),
    [Symbol.asyncDispose]: () => image.close(),
  })
  return store
}

function shareImage(image: OpenImage, facts: ImageFacts, module: string): SharedStore {
  let release = (): void => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  // If the image is closed already, this fails, and so do the other threads' calls on the
  // descriptor.
  image.use(() => released).catch(() => {})
  const data: SharedImage = { ...facts, path: image.path, fd: image.file.fd }
  return { module, data, [Symbol.dispose]: release }
}
