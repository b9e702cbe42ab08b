/** A disk in memory that takes memory for what was written only: what overlays and snapshots keep their blocks in. */
import { expectInteger } from '@xenkit/hypervisor'
import { type BlockStore, MAX_SECTORS } from '../block-store.ts'

const CHUNK = 4096

export type SparseStore = Required<Omit<BlockStore, 'sectorSize' | 'physicalSectorSize' | 'resize' | 'onResize' | 'openBatch' | 'share'>>

/** @param sectors size of the zeroed disk, however large */
export function sparseStore(sectors: number): SparseStore {
  expectInteger('sectors', sectors, 1, MAX_SECTORS)
  const chunks = new Map<number, Uint8Array>()

  /** Calls `move` with each stretch of a buffer that lies in one chunk. */
  function eachPiece(sector: number, buffers: readonly Uint8Array[], move: (chunk: number, offset: number, piece: Uint8Array) => void): void {
    let position = sector * 512
    for (const buffer of buffers) {
      for (let at = 0; at < buffer.length; ) {
        const offset = position % CHUNK
        const piece = buffer.subarray(at, at + CHUNK - offset)
        move((position - offset) / CHUNK, offset, piece)
        at += piece.length
        position += piece.length
      }
    }
  }

  return {
    sectors,
    read: (sector, into) =>
      eachPiece(sector, into, (at, offset, piece) => {
        const chunk = chunks.get(at)
        if (chunk) piece.set(chunk.subarray(offset, offset + piece.length))
        else piece.fill(0)
      }),
    write: (sector, from) =>
      eachPiece(sector, from, (at, offset, piece) => {
        const chunk = chunks.get(at) ?? new Uint8Array(CHUNK)
        chunk.set(piece, offset)
        chunks.set(at, chunk)
      }),
    flush() {},
    discard(sector, count) {
      const [from, to] = [sector * 512, (sector + count) * 512]
      // Of a disk and of what it holds, walk what is less.
      const wanted = to - from < chunks.size * CHUNK ? Array.from({ length: Math.ceil(to / CHUNK) - Math.floor(from / CHUNK) }, (_, i) => Math.floor(from / CHUNK) + i) : [...chunks.keys()]
      for (const at of wanted) {
        const start = Math.max(from - at * CHUNK, 0)
        const end = Math.min(to - at * CHUNK, CHUNK)
        if (start === 0 && end === CHUNK) chunks.delete(at)
        else if (start < end) chunks.get(at)?.fill(0, start, end)
      }
    },
    discardLimits: { granularity: CHUNK, alignment: 0, secure: true },
  }
}
