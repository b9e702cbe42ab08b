/**
 * Block device requests and responses. Follows xen/include/public/io/blkif.h.
 *
 * Every layout exists in two variants. x86_32 aligns a u64 to 4 bytes and so has no hole before
 * `id`; x86_64 and arm align a u64 to 8. Padding that an ABI doesn't have is a field of 0 bytes
 * there.
 *
 * Sectors are 512 bytes in every field, as in the current header. The header of Xen 4.17 counted in
 * units of the `sector-size` node, which few frontends ever did.
 */
import { cstruct } from './cstruct.ts'
import { array, i16, padding, u16, u32, u64, u64Align4, u8 } from './ctypes.ts'
import type { Int64Schema } from './ctypes.ts'
import type { Abi } from './protocols.ts'
import { XEN_PAGE_SIZE } from './ring.ts'

/** Operations, in `operation` of a request. */
export const BLKIF_OP = {
  READ: 0,
  WRITE: 1,
  /**
   * A write ordered against others: earlier writes complete before it runs, later ones run after it
   * completes. Needs feature-barrier.
   */
  WRITE_BARRIER: 2,
  /** Makes every completed write durable. Needs feature-flush-cache. */
  FLUSH_DISKCACHE: 3,
  /** Device-specific packets, used by SLES. */
  RESERVED_1: 4,
  /** A discard of sectors. Needs feature-discard. */
  DISCARD: 5,
  /**
   * A read or write whose segment list is in separate pages. Needs feature-max-indirect-segments.
   */
  INDIRECT: 6,
} as const

/** Results, in `status` of a response. */
export const BLKIF_RSP = {
  OKAY: 0,
  ERROR: -1,
  /**
   * The operation isn't supported. A backend may answer any flush or barrier so, even after it
   * offered the feature.
   */
  EOPNOTSUPP: -2,
} as const

/** `flag` of a discard request: no copy of the data may remain readable. Needs discard-secure. */
export const BLKIF_DISCARD_SECURE = 1

/** Bits of the backend's `info` node. */
export const VDISK = { CDROM: 1, REMOVABLE: 2, READONLY: 4 } as const

/** Bytes of a sector in every field of the protocol. */
export const BLKIF_SECTOR_SIZE = 512
/** Most segments of a plain request. With 11, 32 slots fit into one page. */
export const BLKIF_MAX_SEGMENTS_PER_REQUEST = 11
/** Most pages of segments that an indirect request can refer to. */
export const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8

const segment = cstruct('blkif_request_segment', {
  gref: u32,
  /** First sector within the page, 0..7. */
  first_sect: u8,
  /** Last sector within the page, inclusive, 0..7. */
  last_sect: u8,
  _pad: padding(2),
})

/** Segments in one indirect page: 4096 / 8 = 512. */
export const BLKIF_SEGMENTS_PER_INDIRECT_PAGE = XEN_PAGE_SIZE / segment.size

/**
 * Lays out the messages of one ABI.
 * @param wide uint64_t with the ABI's alignment
 * @param indirectEnd bytes of padding after `indirect_grefs`
 */
function layout(wide: Int64Schema, indirectEnd: number) {
  // Each hole aligns a u64 that follows 4 bytes, or the end of a struct that contains a u64.
  const hole = wide.align - 4
  const request = cstruct('blkif_request', {
    operation: u8,
    nr_segments: u8,
    /** Device id; backends ignore it. */
    handle: u16,
    _pad: padding(hole),
    /** Chosen by the frontend, returned in the response. */
    id: wide,
    sector_number: wide,
    seg: array(segment, BLKIF_MAX_SEGMENTS_PER_REQUEST),
  })
  return {
    segment,
    request,
    discard: cstruct('blkif_request_discard', {
      operation: u8,
      flag: u8,
      handle: u16,
      _pad: padding(hole),
      id: wide,
      sector_number: wide,
      nr_sectors: wide,
    }),
    indirect: cstruct('blkif_request_indirect', {
      operation: u8,
      /** BLKIF_OP.READ or WRITE; the response repeats this operation. */
      indirect_op: u8,
      nr_segments: u16,
      _pad0: padding(hole),
      id: wide,
      sector_number: wide,
      handle: u16,
      _pad1: padding(2),
      indirect_grefs: array(u32, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST),
      _pad2: padding(indirectEnd),
    }),
    response: cstruct('blkif_response', {
      id: wide,
      operation: u8,
      _pad0: padding(1),
      status: i16,
      _pad1: padding(hole),
    }),
    /** Bytes of a ring slot, which is as large as the largest message, the plain request. */
    slotSize: request.size,
  }
}

/** The block protocol's messages in one ABI. */
export type BlkifLayout = ReturnType<typeof layout>

const aligned8 = layout(u64, 4)

/** The block protocol's messages, by the ABI of the frontend's `protocol` node. */
export const blkif: { readonly [A in Abi]: BlkifLayout } = {
  x86_64: aligned8,
  // The header puts a u64 at the end of the indirect request, so it has 64 bytes in x86_32 too.
  x86_32: layout(u64Align4, 8),
  arm: aligned8,
}
