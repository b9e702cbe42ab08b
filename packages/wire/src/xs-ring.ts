/**
 * The page that carries a domain's connection to xenstored, after xen/include/public/io/xs_wire.h
 * and docs/misc/xenstore-ring.txt: two circular buffers of bytes, requests and replies, with
 * free-running indices. The domain produces requests, xenstored replies.
 */
import { cstruct } from './cstruct.ts'
import { array, u32, u8 } from './ctypes.ts'

/** Bytes of each of the two buffers. */
export const XENSTORE_RING_SIZE = 1024

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
  /** Filled in by Xen for domains that it starts itself; not in the header of 4.17. */
  evtchn_port: u32,
})

/** Bits of `server_features`, which GET_FEATURE answers with as well. */
export const XENSTORE_SERVER_FEATURE = {
  /** `connection` may be used to reset the ring. */
  RECONNECTION: 1,
  /** `error` says why xenstored gave up on the ring. */
  ERROR: 2,
  /** WATCH takes a depth. */
  WATCHDEPTH: 4,
  /** Permissions may name DOMID_ANY. */
  DOMID_ANY: 8,
} as const

/** Values of `connection`. */
export const XENSTORE_CONNECTED = 0
/** Set by the domain, which then waits for xenstored to set it back. */
export const XENSTORE_RECONNECT = 1

/** Values of `error`. */
export const XENSTORE_ERROR = {
  NONE: 0,
  /** The event channel does not work. */
  COMM: 1,
  /** An index is further ahead than the buffer is long. */
  RINGIDX: 2,
  /** A message is longer than XENSTORE_PAYLOAD_MAX. */
  PROTO: 3,
} as const
