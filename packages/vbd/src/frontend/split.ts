/** Splits a transfer of any length into requests. */
import { expectInteger } from '@xenkit/hypervisor'
import { MAX_SECTORS } from '@xenkit/block-store'

/** The part of a transfer that one request moves. */
export interface Piece {
  readonly sector: number
  readonly data: Uint8Array[]
  readonly bytes: number
}

/**
 * Splits buffers, which start at `sector`, into pieces of at most `limit` bytes.
 * @param limit a multiple of `unit`, in bytes
 * @throws TypeError, RangeError if the range isn't whole sectors of `unit` bytes
 */
export function split(
  sector: number,
  buffers: readonly Uint8Array[],
  { limit, unit }: { readonly limit: number; readonly unit: number },
): Piece[] {
  const total = buffers.reduce((sum, buffer) => sum + buffer.length, 0)
  expectWhole(sector, total, unit)
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
    for (let offset = 0; offset < buffer.length;) {
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

/**
 * Checks that a range is whole sectors of `unit` bytes. `sector` counts units of 512 bytes.
 * @throws TypeError, RangeError if it isn't
 */
export function expectWhole(sector: number, bytes: number, unit: number): void {
  expectInteger('sector', sector, 0, MAX_SECTORS)
  if ((sector * 512) % unit !== 0 || bytes % unit !== 0) {
    throw new RangeError(
      `expected whole sectors of ${unit} bytes, got ${bytes} bytes at sector ${sector} of 512`,
    )
  }
}
