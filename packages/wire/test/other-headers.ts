/**
 * Structs of Xen headers that this package doesn't cover, to show that a device's author can
 * describe them. They have signed integers, unions, and layouts that differ between ABIs.
 */
import { array, cstruct, cunion, i16, i32, i8, padding, u16, u32, u8 } from '../src/index.ts'
import type { Int64Schema } from '../src/index.ts'

/** Events of io/kbdif.h. */
const pos = cstruct('xenkbd_mtouch_pos', { abs_x: i32, abs_y: i32 })
const shape = cstruct('xenkbd_mtouch_shape', { major: u32, minor: u32 })
const touch = cunion('xenkbd_mtouch_u', { pos, shape, orientation: i16 })
const mtouch = cstruct('xenkbd_mtouch', {
  type: u8,
  event_type: u8,
  contact_id: u8,
  reserved: array(u8, 5),
  u: touch,
})
const motion = cstruct('xenkbd_motion', {
  type: u8,
  _pad: padding(3),
  rel_x: i32,
  rel_y: i32,
  rel_z: i32,
})
const event = cunion('xenkbd_in_event', {
  type: u8,
  motion,
  mtouch,
  pad: array(u8, 40),
})
export const keyboard = {
  structs: { mtouch, motion },
  unions: { touch, event },
}

/**
 * Messages of io/fsif.h in one ABI.
 * @param o uint64_t and int64_t with the ABI's alignment
 */
export function fsif({ u64, i64 }: { readonly u64: Int64Schema; readonly i64: Int64Schema }) {
  const read = cstruct('fsif_read_request', {
    fd: u32,
    pad: i32,
    len: u64,
    offset: u64,
    grefs: array(u32, 1),
    _pad: padding(u64.align - 4),
  })
  const truncate = cstruct('fsif_truncate_request', { fd: u32, pad: i32, length: i64 })
  const create = cstruct('fsif_create_request', {
    directory: i8,
    pad: i8,
    pad2: i16,
    mode: i32,
    gref: u32,
  })
  const stat = cstruct('fsif_stat_response', {
    stat_mode: i32,
    stat_uid: u32,
    stat_gid: u32,
    stat_ret: i32,
    stat_size: i64,
    stat_atime: i64,
    stat_mtime: i64,
    stat_ctime: i64,
  })
  const requests = cunion('fsif_request_u', { fread: read, ftruncate: truncate, fcreate: create })
  const responses = cunion('fsif_response_u', { ret_val: u64, fstat: stat })
  const request = cstruct('fsif_request', { type: u8, pad: u8, id: u16, pad2: u32, u: requests })
  const response = cstruct('fsif_response', { id: u16, pad1: u16, pad2: u32, u: responses })
  return {
    structs: { read, truncate, create, stat, request, response },
    unions: { requests, responses },
  }
}
