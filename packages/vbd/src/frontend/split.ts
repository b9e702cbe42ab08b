/** Cutting a transfer of any length into requests. */
import { MAX_REQUEST_SECTORS } from './slots.ts'

export interface Piece {
  readonly sector: number
  readonly data: Uint8Array[]
  readonly bytes: number
}

/**
 * Splits buffers, taken as one run of bytes that begins at `sector`, into pieces of at most 88 sectors.
 * @throws RangeError if their length isn't a multiple of 512.
 */
export function split(sector: number, buffers: readonly Uint8Array[]): Piece[] {
  const total = buffers.reduce((sum, buffer) => sum + buffer.length, 0)
  if (total % 512 !== 0) throw new RangeError(`"buffers" expected a multiple of 512 bytes in all, got ${total}`)
  const limit = MAX_REQUEST_SECTORS * 512
  const pieces: Piece[] = []
  let data: Uint8Array[] = []
  let bytes = 0
  let at = sector
  const cut = (): void => {
    pieces.push({ sector: at, data, bytes })
    at += bytes / 512
    data = []
    bytes = 0
  }
  for (const buffer of buffers) {
    for (let offset = 0; offset < buffer.length; ) {
      const part = buffer.subarray(offset, offset + limit - bytes)
      data.push(part)
      bytes += part.length
      offset += part.length
      if (bytes === limit) cut()
    }
  }
  if (bytes > 0) cut()
  return pieces
}
