/**
 * The shared header of a request/response ring. Follows xen/include/public/io/ring.h.
 *
 * Indices run freely over 0..2^32 - 1 and are masked on access. The distance between two of them is
 * a subtraction modulo 2^32. A new ring has both producers at 0 and both event indices at 1.
 */
import { type CStruct, type Fields, cstruct } from './cstruct.ts'
import { padding, u32 } from './ctypes.ts'

/** Bytes of a ring page: 4 KiB whatever the architecture's own page size is. */
export const XEN_PAGE_SIZE = 4096

/** Header of a ring, at the start of its first page. */
export const sring = cstruct('sring', {
  req_prod: u32,
  /** The frontend notifies the backend when req_prod passes this index. */
  req_event: u32,
  rsp_prod: u32,
  /** The backend notifies the frontend when rsp_prod passes this index. */
  rsp_event: u32,
  /** Private fields of some protocols. */
  pvt: padding(4),
  pad: padding(44),
})

/** Offset of slot 0: four u32 indices (16) + pvt (4) + padding (44) = 64 bytes. */
export const RING_OFFSET = sring.size

/**
 * Number of slots in a ring: the largest power of two that fits behind the header, or 0.
 * @param o.pages pages of 4096 bytes
 * @param o.slotSize bytes per slot
 */
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

/** The two kinds of message that share the slots of a ring. */
export interface RingMessages<Request extends Fields, Response extends Fields> {
  readonly request: CStruct<Request>
  readonly response: CStruct<Response>
  /** Bytes per slot: sizeof a C union of both. */
  readonly slotSize: number
}

/**
 * Defines a ring's messages, as DEFINE_RING_TYPES does in C.
 *
 * @example
 * const messages = ringMessages({
 *   request: cstruct('echo_request', { id: u32, value: u32 }),
 *   response: cstruct('echo_response', { id: u32, status: i16, _pad: padding(2) }),
 * })
 */
export function ringMessages<Request extends Fields, Response extends Fields>(o: {
  readonly request: CStruct<Request>
  readonly response: CStruct<Response>
}): RingMessages<Request, Response> {
  const align = Math.max(o.request.align, o.response.align)
  return { ...o, slotSize: Math.ceil(Math.max(o.request.size, o.response.size) / align) * align }
}
