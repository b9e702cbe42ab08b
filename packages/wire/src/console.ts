/**
 * The page of a console: two circular byte buffers with free-running indices. Follows
 * xen/include/public/io/console.h.
 */
import { cstruct } from './cstruct.ts'
import { array, padding, u32, u8 } from './ctypes.ts'

/** Layout of a console's page. */
export const xenconsInterface = cstruct('xencons_interface', {
  /** Bytes for the guest to read, which the backend writes. */
  in: array(u8, 1024),
  /** Bytes that the guest has written, for the backend to read. */
  out: array(u8, 2048),
  in_cons: u32,
  in_prod: u32,
  out_cons: u32,
  out_prod: u32,
  /** XENCONSOLE_CONNECTED or XENCONSOLE_DISCONNECTED. In the header since Xen 4.21. */
  connection: u8,
  _pad: padding(3),
})

/**
 * Value of `connection`: the backend serves the console. An older toolstack, which doesn't know the
 * field, leaves 0 there, so its console counts as served from the start.
 */
export const XENCONSOLE_CONNECTED = 0
/** Value of `connection`, set by the toolstack: no backend serves the console yet. */
export const XENCONSOLE_DISCONNECTED = 1
