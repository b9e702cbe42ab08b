/**
 * Units of a disk that somebody else names: another backend, a server, the kernel. They are hints:
 * one that makes no sense is no reason to refuse the disk.
 */
import type { DiscardLimits, SectorSize } from './block-store.ts'

/** Largest granule and alignment, and physical sector, in bytes. */
export const MAX_GRANULARITY = 2 ** 31
export const MAX_PHYSICAL_SECTOR = 2 ** 30

/**
 * Limits of discards. Granules of 0 bytes are taken for sectors: nothing was said.
 * @returns undefined where no discard can be cut to such granules
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

/** @returns the size of a sector for a physical sector that can't be */
export function hintedPhysicalSize(bytes: number, sectorSize: SectorSize): number {
  const isPower = bytes >= sectorSize && bytes <= MAX_PHYSICAL_SECTOR && (bytes & (bytes - 1)) === 0
  return isPower ? bytes : sectorSize
}
