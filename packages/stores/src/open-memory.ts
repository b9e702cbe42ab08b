/** Opens disks in memory: zeroed, or with the content of an image. */
import { expectInteger } from '@xenkit/hypervisor'
import { type BlockStore, MAX_SECTORS } from '@xenkit/block-store'
import { isZero } from './buffers.ts'
import { type FileStoreOptions, openFileStoreWith } from './file.ts'
import { memoryStore } from './memory.ts'
import { type MemoryCalls, type OpenMemory, memoryImageStore } from './memory-image.ts'
import { Size } from './size.ts'

/** How `openMemoryStore` of xenkit reads an image. `locking` locks the image until it is read. */
export type OpenMemoryStoreOptions = Pick<FileStoreOptions, 'locking'>

/** A disk in memory that has to be closed. */
export interface OpenedMemoryStore
  extends
    Required<Omit<BlockStore, 'sectorSize' | 'physicalSectorSize' | 'openBatch' | 'share'>>,
    Pick<BlockStore, 'openBatch' | 'share'>,
    Disposable {
  /** Cuts the disk, or lengthens it by zeroes. */
  resize(sectors: number): void
  /** Frees the memory once no disk is served from it. Idempotent; later calls of the store fail. */
  close(): void
}

/** Bytes of one read of an image. */
const PIECE = 256 * 1024

/**
 * Opens a disk in memory as `openMemoryStore` of xenkit does, with the given calls in place of the
 * addon's.
 * @throws ImageError if the image can't be read
 * @throws RangeError if the size is out of range
 */
export async function openMemoryStoreWith(
  calls: MemoryCalls,
  source: number | string,
  o: OpenMemoryStoreOptions = {},
): Promise<OpenedMemoryStore> {
  if (typeof source === 'number') return zeroed(source, calls)
  const { lockBytes } = calls
  await using image = await openFileStoreWith({ lockBytes }, source, { ...o, readOnly: true })
  const store = zeroed(image.sectors, calls)
  try {
    await load(image, store)
    return store
  } catch (error) {
    store.close()
    throw error
  }
}

function zeroed(sectors: number, { openMemory, shareBy }: MemoryCalls): OpenedMemoryStore {
  expectInteger('sectors', sectors, 1, MAX_SECTORS)
  if (openMemory) return imageStore(openMemory, sectors, shareBy)
  return Object.assign(memoryStore(sectors), { close() {}, [Symbol.dispose]() {} })
}

function imageStore(
  openMemory: OpenMemory,
  sectors: number,
  shareBy?: () => string,
): OpenedMemoryStore {
  const image = openMemory({ bytes: sectors * 512 })
  const size = new Size(sectors)
  const store: OpenedMemoryStore = Object.assign(
    memoryImageStore((work) => work(image), size),
    {
      onResize: size.onResize,
      resize(wanted: number) {
        expectInteger('sectors', wanted, 1, MAX_SECTORS)
        // Announce a smaller size before cutting, so that nobody requests what is about to go.
        if (wanted < size.sectors) size.change(wanted)
        image.resize(wanted * 512)
        size.change(wanted)
      },
      share(this: unknown) {
        if (this !== store || !shareBy) return undefined
        const { id } = image
        const kept = openMemory({ id })
        return { module: shareBy(), data: { id }, [Symbol.dispose]: () => kept.close() }
      },
      close: () => image.close(),
      [Symbol.dispose]: () => image.close(),
    },
  )
  return store
}

/** Copies the image to the store. Zeroes aren't written, so that they take no memory. */
async function load(image: BlockStore, store: OpenedMemoryStore): Promise<void> {
  const piece = new Uint8Array(PIECE)
  for (let sector = 0; sector < image.sectors; sector += PIECE / 512) {
    const part = piece.subarray(0, (image.sectors - sector) * 512)
    await image.read(sector, [part])
    if (!isZero(part)) await store.write(sector, [part])
  }
}
