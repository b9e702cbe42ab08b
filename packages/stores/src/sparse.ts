/**
 * A disk in memory that takes memory only for written chunks. By default, overlays and snapshots
 * keep their blocks in one.
 */
import { expectInteger } from '@xenkit/hypervisor'
import { type BlockStore, LEAVES_BUFFERS, MAX_SECTORS, byteLength } from '@xenkit/block-store'
import { StretchTree } from './stretch-tree.ts'

const CHUNK = 4096

/** A disk in memory that takes memory only for what was written. */
export type SparseStore = Required<
  Omit<
    BlockStore,
    'sectorSize' | 'physicalSectorSize' | 'resize' | 'onResize' | 'openBatch' | 'share'
  >
>

/**
 * Makes a disk in memory that takes memory only for what was written.
 * @param sectors size of the zeroed disk, 1..2^43
 * @throws RangeError for another size
 */
export function sparseStore(sectors: number): SparseStore {
  expectInteger('sectors', sectors, 1, MAX_SECTORS)
  const chunks = new StretchTree<Uint8Array>(Math.ceil((sectors * 512) / CHUNK))

  /** Calls `move` with each part of a buffer that lies in one chunk. */
  function eachPiece(
    sector: number,
    buffers: readonly Uint8Array[],
    move: (chunk: number, offset: number, piece: Uint8Array) => void,
  ): void {
    let position = sector * 512
    for (const buffer of buffers) {
      for (let at = 0; at < buffer.length;) {
        const offset = position % CHUNK
        const piece = buffer.subarray(at, at + CHUNK - offset)
        move((position - offset) / CHUNK, offset, piece)
        at += piece.length
        position += piece.length
      }
    }
  }

  /** Zeroes bytes of one chunk. */
  const zero = (from: number, to: number): void => {
    const at = Math.floor(from / CHUNK)
    chunks.at(at).value?.fill(0, from - at * CHUNK, to - at * CHUNK)
  }

  return {
    sectors,
    read(sector, into) {
      eachPiece(sector, into, (at, offset, piece) => {
        const { value: chunk } = chunks.at(at)
        if (chunk) piece.set(chunk.subarray(offset, offset + piece.length))
        else piece.fill(0)
      })
      return { bytesRead: byteLength(into) }
    },
    write: Object.assign((sector: number, from: readonly Uint8Array[]): void => {
      eachPiece(sector, from, (at, offset, piece) => {
        const { value } = chunks.at(at)
        const chunk = value ?? new Uint8Array(CHUNK)
        chunk.set(piece, offset)
        if (!value) chunks.fill(at, at + 1, chunk)
      })
    }, LEAVES_BUFFERS),
    flush() {},
    discard(sector, count) {
      const [from, to] = [sector * 512, (sector + count) * 512]
      const [first, end] = [Math.ceil(from / CHUNK), Math.floor(to / CHUNK)]
      if (first > end) return zero(from, to)
      if (from < first * CHUNK) zero(from, first * CHUNK)
      if (first < end) chunks.fill(first, end, undefined)
      if (end * CHUNK < to) zero(end * CHUNK, to)
    },
    discardLimits: { granularity: CHUNK, alignment: 0, secure: true },
  }
}
