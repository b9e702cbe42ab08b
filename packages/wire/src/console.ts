/**
 * The page of a console: two circular byte buffers with free-running indices. Follows
 * xen/include/public/io/console.h.
 */
import { cstruct } from './cstruct.ts'
import { array, padding, u32, u8 } from './ctypes.ts'

/** Layout of the page. */
export const xenconsInterface = cstruct('xencons_interface', {
  /** Input of the console, from the backend to the guest. */
  in: array(u8, 1024),
  /** Output of the guest. */
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
 * The backend serves the console. A toolstack that doesn't know the field leaves this value too.
 */
export const XENCONSOLE_CONNECTED = 0
/** Set by the toolstack; cleared when the backend connects. */
export const XENCONSOLE_DISCONNECTED = 1
