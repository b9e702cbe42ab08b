/**
 * The calls of a file store that reach its image. Other threads make them over the same descriptor,
 * which stays open until they have finished.
 */
import { fdatasync, readv, writev } from 'node:fs'
import { promisify } from 'node:util'
import {
  type BlockStore,
  type DiscardLimits,
  LEAVES_BUFFERS,
  type StoreBatch,
  type StoreBatchOptions,
  byteLength,
} from '@xenkit/block-store'
import { DirectTransfers } from './direct-transfers.ts'
import type { LockBytes } from './image-locks.ts'
import { oneByOne, shared } from './in-turn.ts'
import { OpenImage, type Vectored, transfer } from './open-image.ts'

/** Discards a range, in bytes, of a block device or file. A file's range then reads as zeroes. */
export type DiscardRange = (fd: number, offset: number, length: number) => Promise<void>

/**
 * Opens a batch of reads and writes of an open file. The batch has its own descriptor, so the
 * caller may close the file. Undefined if the memory can't have a batch.
 */
export type OpenFileBatch = (
  o: StoreBatchOptions & { readonly fd: number; readonly direct: boolean },
) => StoreBatch | undefined

/** System calls that Node lacks: `openFileStore` of xenkit passes those of the addon. */
export interface FileCalls {
  /** Discards a range. If absent, the store offers no discard. */
  readonly discardRange?: DiscardRange | undefined
  /** Opens a batch. If absent, data goes through Node's thread pool. */
  readonly openFileBatch?: OpenFileBatch | undefined
  /** Locks bytes of the file. If absent, images aren't locked. */
  readonly lockBytes?: LockBytes | undefined
  /**
   * Returns the URL of a module by which other threads open the store. Its default export passes
   * its arguments to `sharedFileStore`. If absent, the thread that opened the store serves it.
   */
  readonly shareBy?: (() => string) | undefined
}

/** Properties of an open image, which can be sent to another thread. */
export interface ImageFacts {
  readonly readOnly: boolean
  readonly direct: boolean
  readonly sectorSize: 512 | 4096
  readonly physicalSectorSize: number
  /**
   * Limits of discards; undefined unless a discard was tried and worked. A guest must not be
   * offered discards that fail.
   */
  readonly discardLimits: DiscardLimits | undefined
}

/** Describes an open image to another thread. */
export interface SharedImage extends ImageFacts {
  readonly path: string
  readonly fd: number
}

/** Opens a file store again in another thread, for the module that `shareBy` names. */
export const sharedFileStore = (
  { path, fd, ...facts }: SharedImage,
  size: { readonly sectors: number },
  calls: FileCalls = {},
): BlockStore => imageStore(new OpenImage({ fd, close: async () => {} }, path), size, facts, calls)

interface Transfers {
  read(into: Uint8Array[], position: number): Promise<void>
  write(from: Uint8Array[], position: number): Promise<void>
}

export function imageStore(
  image: OpenImage,
  size: { readonly sectors: number },
  facts: ImageFacts,
  { discardRange, openFileBatch }: FileCalls,
): BlockStore {
  const { readOnly, direct, sectorSize, physicalSectorSize, discardLimits } = facts
  const transfers: Transfers = direct ? new DirectTransfers(image) : cachedTransfers(image)
  const flush = shared(() => promisify(fdatasync)(image.file.fd))
  const inTurn = oneByOne()
  const store: BlockStore = {
    get sectors() {
      return size.sectors
    },
    sectorSize,
    physicalSectorSize,
    async read(sector, into) {
      await transfers.read(into, sector * 512)
      return { bytesRead: byteLength(into) }
    },
    ...(!readOnly && {
      write: Object.assign(
        (sector: number, from: Uint8Array[]) => transfers.write(from, sector * 512),
        LEAVES_BUFFERS,
      ),
      flush: () => image.use(flush),
    }),
    ...(discardRange &&
      discardLimits && {
        discard: (sector: number, count: number) =>
          image.use((fd) => inTurn(() => discardRange(fd, sector * 512, count * 512))),
        discardLimits,
      }),
    ...(openFileBatch && {
      // Only this very object has a batch: a batch would bypass the `read` of an object that copied
      // this store's members.
      openBatch(this: unknown, o: StoreBatchOptions) {
        return this === store ? openFileBatch({ ...o, fd: image.file.fd, direct }) : undefined
      },
    }),
  }
  return store
}

function cachedTransfers(image: OpenImage): Transfers {
  const move =
    (call: Vectored) =>
    (buffers: Uint8Array[], position: number): Promise<void> =>
      image.use((fd) => transfer(call, { fd, path: image.path }, buffers, position))
  return { read: move(readv), write: move(writev) }
}
