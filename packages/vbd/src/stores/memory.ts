/** A disk in memory: for tests, scratch space, and as the shortest example of a store. */
import { expectInteger } from '@xenkit/hypervisor'
import { type BlockStore, MAX_SECTORS } from '../block-store.ts'

/** @param sectors size of the zeroed disk, or the bytes to serve: a multiple of 512, used in place */
export function memoryStore(source: number | Uint8Array): Required<Pick<BlockStore, 'sectors' | 'read' | 'write' | 'flush'>> & { readonly bytes: Uint8Array } {
  if (typeof source === 'number') expectInteger('sectors', source, 1, MAX_SECTORS)
  const bytes = typeof source === 'number' ? new Uint8Array(source * 512) : source
  if (bytes.length === 0 || bytes.length % 512 !== 0) throw new RangeError(`"bytes" expected a multiple of 512, got ${bytes.length}`)
  return {
    bytes,
    sectors: bytes.length / 512,
    read(sector, into) {
      let at = sector * 512
      for (const piece of into) {
        piece.set(bytes.subarray(at, at + piece.length))
        at += piece.length
      }
    },
    write(sector, from) {
      let at = sector * 512
      for (const piece of from) {
        bytes.set(piece, at)
        at += piece.length
      }
    },
    flush() {},
  }
}
