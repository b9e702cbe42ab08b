/**
 * The page of a console: two circular byte buffers with free-running indices. Follows
 * xen/include/public/io/console.h.
 */
import { cstruct } from './cstruct.ts'
import { array, padding, u32, u8 } from './ctypes.ts'

/** Layout of the page. */
export const xenconsInterface = cstruct('xencons_interface', {
  /** What is typed: from the backend to the guest. */
  in: array(u8, 1024),
  /** What the guest prints. */
  out: array(u8, 2048),
  in_cons: u32,
  in_prod: u32,
  out_cons: u32,
  out_prod: u32,
  /** XENCONSOLE_CONNECTED or XENCONSOLE_DISCONNECTED. In the header since Xen 4.21. */
  connection: u8,
  _pad: padding(3),
})

/** The backend serves the console. Also what a toolstack leaves there that knows no such flag. */
export const XENCONSOLE_CONNECTED = 0
/** Set by the toolstack, until the backend connects. */
export const XENCONSOLE_DISCONNECTED = 1
