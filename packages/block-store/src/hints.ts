/**
 * Hints on a disk's units, from another backend, a server or the kernel. A hint that makes no sense
 * is ignored: it is no reason to refuse the disk.
 */
import type { DiscardLimits, SectorSize } from './block-store.ts'

/** Largest granule and alignment of discards, in bytes. */
export const MAX_GRANULARITY = 2 ** 31
/** Largest physical sector, in bytes. */
export const MAX_PHYSICAL_SECTOR = 2 ** 30

/**
 * Limits of discards as hinted. A granule of 0 bytes means no hint: granules are sectors then.
 * @returns undefined if discards can't be cut to such granules
 */
export function hintedDiscardLimits(
  hint: DiscardLimits,
  sectorSize: SectorSize,
): DiscardLimits | undefined {
  const limits = { ...hint, granularity: hint.granularity === 0 ? sectorSize : hint.granularity }
  const isUnit = (bytes: number): boolean =>
    bytes >= 0 && bytes <= MAX_GRANULARITY && bytes % sectorSize === 0
  return isUnit(limits.granularity) && isUnit(limits.alignment) ? limits : undefined
}

/**
 * Bytes of a physical sector as hinted.
 * @returns `sectorSize` if the hint is no power of two in `sectorSize`..`MAX_PHYSICAL_SECTOR`
 */
export function hintedPhysicalSize(bytes: number, sectorSize: SectorSize): number {
  const isPower = bytes >= sectorSize && bytes <= MAX_PHYSICAL_SECTOR && (bytes & (bytes - 1)) === 0
  return isPower ? bytes : sectorSize
}
