/**
 * Messages of xenstore. Follows xen/include/public/io/xs_wire.h: a header of 16 bytes, then `len`
 * bytes of payload whose syntax depends on `type` (docs/misc/xenstore.txt).
 *
 * xs-parser.ts and xs-packer.ts handle the two directions of a stream of such messages.
 */
import { cstruct } from './cstruct.ts'
import { u32 } from './ctypes.ts'

/**
 * Header of a message. `req_id` is repeated in the reply, `tx_id` is 0 outside a transaction, `len`
 * excludes the header.
 */
export const xsdSockmsg = cstruct('xsd_sockmsg', { type: u32, req_id: u32, tx_id: u32, len: u32 })

/** Types of messages: `enum xsd_sockmsg_type`. */
export const XS = {
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  /** Reports a change to a watcher. Only xenstored sends this. */
  WATCH_EVENT: 15,
  /** Reply that a request failed. Only xenstored sends this. */
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  /** Removed from the header; old releases of oxenstored support it. */
  RESTRICT: 20,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
  GET_FEATURE: 23,
  SET_FEATURE: 24,
  GET_QUOTA: 25,
  SET_QUOTA: 26,
} as const

const typeNames = new Map<number, string>(Object.entries(XS).map(([name, type]) => [type, name]))

/** Returns `READ` for 2, or the number itself if xs_wire.h has no such type. */
export const xsTypeName = (type: number): string => typeNames.get(type) ?? String(type)

/** Errno names of ERROR replies (`xsd_errors`). The name is sent, never the number. */
export const XSD_ERRORS = [
  'EINVAL',
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ENOENT',
  'ENOMEM',
  'ENOSPC',
  'EIO',
  'ENOTEMPTY',
  'ENOSYS',
  'EROFS',
  'EBUSY',
  'EAGAIN',
  'EISCONN',
  'E2BIG',
  'EPERM',
] as const
/** An errno name that xenstored may answer. */
export type XsdError = (typeof XSD_ERRORS)[number]

/**
 * Most bytes of a payload, in both directions. xenstored ends the connection of a client that sends
 * more.
 */
export const XENSTORE_PAYLOAD_MAX = 4096
/** Most bytes of a path with a leading slash. */
export const XENSTORE_ABS_PATH_MAX = 3072
/** Most bytes of a path relative to /local/domain/DOMID. */
export const XENSTORE_REL_PATH_MAX = 2048
