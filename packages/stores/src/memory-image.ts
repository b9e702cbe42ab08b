/**
 * A disk whose bytes the addon keeps: the calls of its store, by the thread that opened it or by
 * others.
 */
import { type BlockStore, LEAVES_BUFFERS } from '@xenkit/block-store'
import type { StoreBatch, StoreBatchOptions } from '@xenkit/block-store'
import type { FileCalls } from './image-store.ts'

/** Memory of a disk, open in this thread. It goes when no thread has it open and no batch is. */
export interface MemoryImage {
  /** By which other threads open it. */
  readonly id: number
  /** @returns bytes copied, fewer than there is room for at the end only */
  read(position: number, into: readonly Uint8Array[]): number
  write(position: number, from: readonly Uint8Array[]): number
  /** Makes a range read as zeroes, and gives its memory back. */
  discard(position: number, length: number): Promise<void>
  /** Cuts it, or lengthens it by zeroes, for all threads. */
  resize(bytes: number): void
  openBatch(o: StoreBatchOptions): StoreBatch
  close(): void
}

/** Makes zeroed memory, or opens what another thread has open. */
export type OpenMemory = (what: { readonly bytes: number } | { readonly id: number }) => MemoryImage

/** What a disk in memory takes of the addon: `openMemoryStore` of xenkit passes its calls. */
export interface MemoryCalls extends Pick<FileCalls, 'lockBytes' | 'shareBy'> {
  /** Without it a disk is an array, which doesn't get smaller by discards. */
  readonly openMemory?: OpenMemory | undefined
}

/** A disk in memory that another thread opened. */
export interface SharedMemory {
  readonly id: number
}

/**
 * For the module that is `shareBy` of a memory store: the store in another thread. Nobody tells it
 * of its end, so it has the memory open during its calls alone.
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

/** @param use runs `work` while the memory is open */
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
    // Of an object that has this store's members and a `read` of its own, that is to be called.
    openBatch(this: unknown, o: StoreBatchOptions) {
      return this === store ? use((image) => image.openBatch(o)) : undefined
    },
  }
  return store
}
