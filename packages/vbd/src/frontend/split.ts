/** Cutting a transfer of any length into requests. */
import { expectInteger } from '@xenkit/hypervisor'
import { MAX_SECTORS } from '@xenkit/block-store'

export interface Piece {
  readonly sector: number
  readonly data: Uint8Array[]
  readonly bytes: number
}

/**
 * Splits buffers, taken as one run of bytes that begins at `sector`, into pieces of at most `limit`
 * bytes.
 * @param limit a multiple of `unit`
 * @throws RangeError if the run isn't one of whole units
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

/** @throws TypeError, RangeError for bytes that aren't whole sectors of the disk */
export function expectWhole(sector: number, bytes: number, unit: number): void {
  expectInteger('sector', sector, 0, MAX_SECTORS)
  if ((sector * 512) % unit !== 0 || bytes % unit !== 0) {
    throw new RangeError(
      `expected whole sectors of ${unit} bytes, got ${bytes} bytes at sector ${sector} of 512`,
    )
  }
}
