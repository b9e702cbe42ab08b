/** A disk in an array: for tests, and as the shortest example of a store. */
import { expectInteger } from '@xenkit/hypervisor'
import { type BlockStore, LEAVES_BUFFERS, MAX_SECTORS } from '@xenkit/block-store'
import { gather, scatter } from './buffers.ts'
import { Size } from './size.ts'

/** Most bytes of one discard. Clearing 1 MiB takes 50 us, and up to 900 us if it was never used. */
const LONGEST_DISCARD = 1024 * 1024

/** A disk in an array. */
export interface MemoryStore extends Required<
  Omit<BlockStore, 'sectorSize' | 'physicalSectorSize' | 'openBatch' | 'share'>
> {
  /** The disk's content; `resize` replaces the array. */
  readonly bytes: Uint8Array
  /** Cuts the disk, or lengthens it by zeroes. */
  resize(sectors: number): void
}

/**
 * Makes a disk of an array.
 * @param source size of a zeroed disk in sectors, or the bytes to serve: a multiple of 512, used in
 * place
 * @throws RangeError for a size that no disk can have
 */
export function memoryStore(source: number | Uint8Array): MemoryStore {
  let bytes = typeof source === 'number' ? zeroes(source) : source
  if (bytes.length === 0 || bytes.length % 512 !== 0) {
    throw new RangeError(`"bytes" expected a multiple of 512, got ${bytes.length}`)
  }
  const size = new Size(bytes.length / 512)
  return {
    get bytes() {
      return bytes
    },
    get sectors() {
      return size.sectors
    },
    read: (sector, into) => ({ bytesRead: scatter(bytes.subarray(sector * 512), into) }),
    write: Object.assign((sector: number, from: readonly Uint8Array[]): void => {
      gather(from, bytes.subarray(sector * 512))
    }, LEAVES_BUFFERS),
    flush() {},
    discard: (sector, count) => void bytes.fill(0, sector * 512, (sector + count) * 512),
    discardLimits: { granularity: 512, alignment: 0, secure: true, maximum: LONGEST_DISCARD },
    onResize: size.onResize,
    resize(sectors) {
      const resized = zeroes(sectors)
      resized.set(bytes.subarray(0, resized.length))
      bytes = resized
      size.change(sectors)
    },
  }
}

function zeroes(sectors: number): Uint8Array {
  expectInteger('sectors', sectors, 1, MAX_SECTORS)
  return new Uint8Array(sectors * 512)
}
