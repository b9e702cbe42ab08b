/**
 * The store of a disk in memory that the addon allocates, in the thread that opened it and in
 * others.
 */
import {
  type BlockStore,
  LEAVES_BUFFERS,
  type StoreBatch,
  type StoreBatchOptions,
} from '@xenkit/block-store'
import type { FileCalls } from './image-store.ts'

/** Memory of a disk, open in this thread. It is freed once no thread and no batch has it open. */
export interface MemoryImage {
  /** Number by which other threads open the same memory. */
  readonly id: number
  /**
   * Copies from the memory, starting at byte `position`.
   * @returns bytes copied: less than the buffers' length only at the memory's end
   */
  read(position: number, into: readonly Uint8Array[]): number
  /**
   * Copies to the memory, starting at byte `position`; returns the bytes copied, as `read` does.
   */
  write(position: number, from: readonly Uint8Array[]): number
  /** Makes a range of bytes read as zeroes, and frees its memory. */
  discard(position: number, length: number): Promise<void>
  /** Cuts the memory, or lengthens it by zeroes, for all threads. */
  resize(bytes: number): void
  /** Opens a batch, which keeps the memory open. */
  openBatch(o: StoreBatchOptions): StoreBatch
  /** Closes the memory in this thread. */
  close(): void
}

/** Allocates zeroed memory, or opens memory that another thread has open. */
export type OpenMemory = (what: { readonly bytes: number } | { readonly id: number }) => MemoryImage

/** Calls that a disk in memory needs: `openMemoryStore` of xenkit passes those of the addon. */
export interface MemoryCalls extends Pick<FileCalls, 'lockBytes' | 'shareBy'> {
  /** Allocates memory. If absent, the disk is an array, and discards free no memory. */
  readonly openMemory?: OpenMemory | undefined
}

/** Describes an open disk in memory to another thread. */
export interface SharedMemory {
  readonly id: number
}

/**
 * Opens a disk in memory again in another thread, for the module that `shareBy` names. Nobody
 * closes this store, so it keeps the memory open only during its calls.
 */
export function sharedMemoryStore(
  { id }: SharedMemory,
  size: { readonly sectors: number },
  openMemory: OpenMemory,
): BlockStore {
  return memoryImageStore((work) => {
    const image = openMemory({ id })
    try {
      return work(image)
    } finally {
      image.close()
    }
  }, size)
}

type MemoryImageStore = Required<
  Pick<
    BlockStore,
    'sectors' | 'read' | 'write' | 'flush' | 'discard' | 'discardLimits' | 'openBatch'
  >
>

/**
 * Makes a store of memory.
 * @param use runs `work` while the memory is open
 */
export function memoryImageStore(
  use: <T>(work: (image: MemoryImage) => T) => T,
  size: { readonly sectors: number },
): MemoryImageStore {
  const store: MemoryImageStore = {
    get sectors() {
      return size.sectors
    },
    read: (sector, into) => ({ bytesRead: use((image) => image.read(sector * 512, into)) }),
    write: Object.assign((sector: number, from: readonly Uint8Array[]) => {
      return { bytesWritten: use((image) => image.write(sector * 512, from)) }
    }, LEAVES_BUFFERS),
    flush() {},
    discard: (sector, count) => use((image) => image.discard(sector * 512, count * 512)),
    discardLimits: { granularity: 512, alignment: 0, secure: true },
    // Only this very object has a batch: a batch would bypass the `read` of an object that copied
    // this store's members.
    openBatch(this: unknown, o: StoreBatchOptions) {
      return this === store ? use((image) => image.openBatch(o)) : undefined
    },
  }
  return store
}
