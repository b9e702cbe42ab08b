/**
 * The calls of a file store that reach its image: by the thread that opened it, or by others over
 * the same descriptor, which stays open as long as they do.
 */
import { fdatasync, readv, writev } from 'node:fs'
import { promisify } from 'node:util'
import {
  type BlockStore,
  type DiscardLimits,
  LEAVES_BUFFERS,
  byteLength,
} from '@xenkit/block-store'
import type { StoreBatch, StoreBatchOptions } from '@xenkit/block-store'
import { DirectTransfers } from './direct-transfers.ts'
import type { LockBytes } from './image-locks.ts'
import { oneByOne, shared } from './in-turn.ts'
import { OpenImage, type Vectored, transfer } from './open-image.ts'

/** Gives up a range of an open file, which then reads as zeroes, or of a block device. */
export type DiscardRange = (fd: number, offset: number, length: number) => Promise<void>

/**
 * Opens a batch of reads and writes of an open file, which it keeps for itself. Undefined where
 * there is none for the memory.
 */
export type OpenFileBatch = (
  o: StoreBatchOptions & { readonly fd: number; readonly direct: boolean },
) => StoreBatch | undefined

/** What a file store needs that Node lacks: `openFileStore` of xenkit passes the addon's calls. */
export interface FileCalls {
  /** Without it a store offers no discard. */
  readonly discardRange?: DiscardRange | undefined
  /** Without it data goes through Node's thread pool. */
  readonly openFileBatch?: OpenFileBatch | undefined
  /** Without it an image isn't locked. */
  readonly lockBytes?: LockBytes | undefined
  /**
   * Returns the URL of a module by which other threads open the store. Its default export passes
   * its arguments to `sharedFileStore`. Without it the thread that opened the store serves it.
   */
  readonly shareBy?: (() => string) | undefined
}

/** What is known of an image. Goes through structured clone. */
export interface ImageFacts {
  readonly readOnly: boolean
  readonly direct: boolean
  readonly sectorSize: 512 | 4096
  readonly physicalSectorSize: number
  /** Undefined where discarding isn't known to work: what is offered to a guest should. */
  readonly discardLimits: DiscardLimits | undefined
}

/** An image that another thread opened. */
export interface SharedImage extends ImageFacts {
  readonly path: string
  readonly fd: number
}

/** For the module that is `shareBy` of a file store: the store in another thread. */
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
      // Of an object that has this store's members and a `read` of its own, that is to be called.
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
