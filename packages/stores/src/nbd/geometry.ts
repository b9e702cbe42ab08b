/** Geometry and features of a disk, derived from what the server reports of the export. */
import { NBD_TRANSMISSION, NBD_MAX_PAYLOAD } from './protocol.ts'
import { MAX_SECTORS } from '@xenkit/block-store'
import type { ExportInfo } from './negotiation.ts'

/** Geometry and features of the disk that an export makes. */
export interface Geometry {
  readonly sectors: number
  readonly sectorSize: 512 | 4096
  /** Bytes of a request that suits the server. */
  readonly preferred: number
  /** Most bytes of one read or write: a multiple of `sectorSize`. */
  readonly maximum: number
  readonly writable: boolean
  readonly canFlush: boolean
  readonly canTrim: boolean
  /** Whether a flush on one connection covers the writes of all connections. */
  readonly multiConn: boolean
}

/**
 * Finds the geometry of the disk.
 * @throws Error if a guest can't have such a disk: the text says why
 */
export function geometryOf({ size, flags, minimum, preferred, maximum }: ExportInfo): Geometry {
  if (minimum > 4096) {
    throw new Error(
      `the server takes requests of whole ${minimum} bytes only, guests make them of 512 or 4096: put nbdkit --filter=blocksize before it`,
    )
  }
  const sectorSize = minimum > 512 ? 4096 : 512
  if (size === 0n) throw new Error('the export is empty')
  if (size % BigInt(sectorSize) !== 0n) {
    throw new Error(
      `the export has ${size} bytes, not a multiple of ${sectorSize}: put nbdkit --filter=truncate round-up=${sectorSize} before it`,
    )
  }
  if (size > BigInt(MAX_SECTORS) * 512n) {
    throw new Error(`the export has ${size} bytes, more than 2^52`)
  }
  const most = Math.floor(Math.min(maximum, NBD_MAX_PAYLOAD) / sectorSize) * sectorSize
  if (most === 0) throw new Error(`the server takes ${maximum} bytes at most, less than one sector`)
  const has = (flag: number): boolean => (flags & flag) !== 0
  const writable = !has(NBD_TRANSMISSION.READ_ONLY)
  return {
    sectors: Number(size) / 512,
    sectorSize,
    preferred: Math.max(preferred, sectorSize),
    maximum: most,
    writable,
    canFlush: writable && has(NBD_TRANSMISSION.SEND_FLUSH),
    canTrim: writable && has(NBD_TRANSMISSION.SEND_TRIM),
    multiConn: has(NBD_TRANSMISSION.CAN_MULTI_CONN),
  }
}

/**
 * Checks the geometry of an export on a new connection. A running guest can learn of a larger size
 * only: all else must be at least as before.
 * @throws Error if the export has lost something: the text says what
 */
export function expectNoLess(now: Geometry, before: Geometry): void {
  if (now.sectors < before.sectors) {
    throw new Error(`the export shrank from ${before.sectors} sectors to ${now.sectors}`)
  }
  if (now.sectorSize > before.sectorSize) {
    throw new Error(
      `the export's sectors grew from ${before.sectorSize} bytes to ${now.sectorSize}`,
    )
  }
  if (now.maximum < before.maximum) {
    throw new Error(`the server takes ${now.maximum} bytes at most, and took ${before.maximum}`)
  }
  for (const quality of ['writable', 'canFlush', 'canTrim', 'multiConn'] as const) {
    if (before[quality] && !now[quality]) {
      throw new Error(`the export is no longer what it was: "${quality}" is gone`)
    }
  }
}
