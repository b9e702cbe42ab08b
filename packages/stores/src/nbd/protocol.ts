/**
 * The network block device protocol: the messages of the fixed newstyle handshake and of the
 * transmission phase with simple replies. Follows doc/proto.md of the NBD project.
 *
 * Big endian and packed. Offsets and lengths are bytes.
 */
import { netstruct } from '@xenkit/wire'
import { u16, u32, u64 } from '@xenkit/wire'

/** First field of the server's greeting: "NBDMAGIC". */
export const NBD_MAGIC = 0x4e42_444d_4147_4943n
/** Second field of a newstyle greeting, and first of each option of the client: "IHAVEOPT". */
export const NBD_OPTS_MAGIC = 0x4948_4156_454f_5054n
/** Second field of an oldstyle greeting; oldstyle has no export names and no TLS. */
export const NBD_CLISERV_MAGIC = 0x0000_4202_8186_1253n
/** First field of the server's answer to an option. */
export const NBD_REP_MAGIC = 0x0003_e889_0455_65a9n
export const NBD_REQUEST_MAGIC = 0x2560_9513
export const NBD_SIMPLE_REPLY_MAGIC = 0x6744_6698

/** Handshake flags, the same bits in both directions. */
export const NBD_FLAG = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const

/** The server's first message; the client answers with its own flags, a u32. */
export const nbdGreeting = netstruct('nbd_greeting', { magic: u64, style: u64, flags: u16 })
export const nbdClientFlags = netstruct('nbd_client_flags', { flags: u32 })

export const NBD_OPT = { STARTTLS: 5, GO: 7 } as const

/** Header of a client's option; `length` bytes follow. */
export const nbdOption = netstruct('nbd_option', { magic: u64, option: u32, length: u32 })
/** Header of the answer to an option; `length` bytes follow. */
export const nbdOptionReply = netstruct('nbd_option_reply', {
  magic: u64,
  option: u32,
  type: u32,
  length: u32,
})

export const NBD_REP = {
  ACK: 1,
  INFO: 3,
  ERR_UNSUP: 0x8000_0001,
  ERR_POLICY: 0x8000_0002,
  ERR_INVALID: 0x8000_0003,
  ERR_PLATFORM: 0x8000_0004,
  ERR_TLS_REQD: 0x8000_0005,
  ERR_UNKNOWN: 0x8000_0006,
  ERR_SHUTDOWN: 0x8000_0007,
  ERR_BLOCK_SIZE_REQD: 0x8000_0008,
  ERR_TOO_BIG: 0x8000_0009,
} as const

/** Bit of a reply's type that marks an error; the reply's data is then a readable text. */
export const NBD_REP_FLAG_ERROR = 0x8000_0000

/** Most bytes of an export's name, and of an error's text. */
export const NBD_MAX_STRING = 4096

export const NBD_INFO = { EXPORT: 0, BLOCK_SIZE: 3 } as const

/** First field of every info: its type. */
export const nbdInfo = netstruct('nbd_info', { type: u16 })
export const nbdInfoExport = netstruct('nbd_info_export', { type: u16, size: u64, flags: u16 })
export const nbdInfoBlockSize = netstruct('nbd_info_block_size', {
  type: u16,
  minimum: u32,
  preferred: u32,
  maximum: u32,
})

/** Flags of an export. */
export const NBD_TRANSMISSION = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_TRIM: 1 << 5,
  /** A flush on one connection covers writes that were answered on any connection. */
  CAN_MULTI_CONN: 1 << 8,
} as const

export const NBD_CMD = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3, TRIM: 4 } as const

/** Header of a request; the data of a write follows. */
export const nbdRequest = netstruct('nbd_request', {
  magic: u32,
  flags: u16,
  type: u16,
  /** Chosen by the client, returned in the reply. */
  cookie: u64,
  offset: u64,
  length: u32,
})
/** Header of a simple reply; the data of a read follows, unless `error` is set. */
export const nbdSimpleReply = netstruct('nbd_simple_reply', { magic: u32, error: u32, cookie: u64 })

/**
 * Names of the errors of simple replies, which have Linux's numbers on every platform. Other
 * numbers count as EINVAL.
 */
export const NBD_ERRNO: ReadonlyMap<number, string> = new Map([
  [1, 'EPERM'],
  [5, 'EIO'],
  [12, 'ENOMEM'],
  [22, 'EINVAL'],
  [28, 'ENOSPC'],
  [75, 'EOVERFLOW'],
  [95, 'ENOTSUP'],
  [108, 'ESHUTDOWN'],
])

/** Largest `length` of a read or write that every server accepts. */
export const NBD_MAX_PAYLOAD = 1 << 25
