/**
 * The shared part of a request/response ring. Follows xen/include/public/io/ring.h.
 *
 * Indices run freely over 0..2^32 - 1 and are masked on access; how far apart two of them are is a
 * subtraction modulo 2^32. A new ring has both producers at 0 and both events at 1.
 */
import { cstruct } from './cstruct.ts'
import { padding, u32 } from './ctypes.ts'

/** Pages of a ring are 4 KiB whatever the architecture's own page size is. */
export const XEN_PAGE_SIZE = 4096

export const sring = cstruct('sring', {
  req_prod: u32,
  /** The frontend notifies when req_prod passes this index. */
  req_event: u32,
  rsp_prod: u32,
  /** The backend notifies when rsp_prod passes this index. */
  rsp_event: u32,
  /** Of some protocols' own use. */
  pvt: padding(4),
  pad: padding(44),
})

/** Where slot 0 begins: four u32 indices (16) + pvt (4) + padding (44) = 64 bytes. */
export const RING_OFFSET = sring.size

/** Slots of a ring: as many as fit behind the header, rounded down to a power of two. */
export function ringSlots({
  pages,
  slotSize,
}: {
  readonly pages: number
  readonly slotSize: number
}): number {
  const fit = Math.floor((pages * XEN_PAGE_SIZE - RING_OFFSET) / slotSize)
  return fit < 1 ? 0 : 2 ** (31 - Math.clz32(fit))
}
