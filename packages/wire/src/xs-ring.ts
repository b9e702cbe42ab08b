/**
 * The page that carries a domain's connection to xenstored. Follows xen/include/public/io/xs_wire.h
 * and docs/misc/xenstore-ring.txt. It has two circular byte buffers, for requests and replies, with
 * free-running indices. The domain produces requests, xenstored replies.
 */
import { cstruct } from './cstruct.ts'
import { array, u32, u8 } from './ctypes.ts'

/** Bytes of each of the two buffers. */
export const XENSTORE_RING_SIZE = 1024

/** Layout of the xenstore ring's page. */
export const xenstoreDomainInterface = cstruct('xenstore_domain_interface', {
  req: array(u8, XENSTORE_RING_SIZE),
  rsp: array(u8, XENSTORE_RING_SIZE),
  req_cons: u32,
  req_prod: u32,
  rsp_cons: u32,
  rsp_prod: u32,
  server_features: u32,
  connection: u32,
  error: u32,
  /**
   * Set by Xen for domains that Xen itself starts; the header of Xen 4.17 doesn't have this field.
   */
  evtchn_port: u32,
})

/** Bits of `server_features`, and of the reply to GET_FEATURE. */
export const XENSTORE_SERVER_FEATURE = {
  /** The domain may reset the ring by writing XENSTORE_RECONNECT to `connection`. */
  RECONNECTION: 1,
  /** The `error` field says why xenstored closed the ring. */
  ERROR: 2,
  /** WATCH requests accept a depth. */
  WATCHDEPTH: 4,
  /** Permissions may name DOMID_ANY. */
  DOMID_ANY: 8,
} as const

/** Value of `connection` while the ring is in use. */
export const XENSTORE_CONNECTED = 0
/**
 * Value of `connection` by which the domain requests a reset. xenstored then sets
 * XENSTORE_CONNECTED.
 */
export const XENSTORE_RECONNECT = 1

/** Values of `error`: why xenstored closed the ring. */
export const XENSTORE_ERROR = {
  NONE: 0,
  /** The event channel doesn't work. */
  COMM: 1,
  /** The peer's index is further ahead than the buffer is long. */
  RINGIDX: 2,
  /** A message is longer than XENSTORE_PAYLOAD_MAX. */
  PROTO: 3,
} as const
