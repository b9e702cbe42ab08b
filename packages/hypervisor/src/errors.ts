/**
 * Error classes, by who is to blame. The caller: TypeError and RangeError, thrown synchronously.
 * The environment: subclasses of XenError. The peer, which is the other domain's half of a device:
 * PeerError, which closes that one device and nothing else.
 *
 * Texts are lower case, put names in double quotes, and say what to do where that is known. A
 * XenError makes its text printable, because a guest or a server may have written part of it.
 */
import { printable } from './text.ts'

/** The domids, paths and other values behind an error's text, by name. */
export type ErrorDetails = Readonly<Record<string, unknown>>

/** Base of all errors that this project defines. */
export class XenError extends Error {
  /** Stable name of the kind of error: `ERR_XEN_...`. */
  readonly code: string
  /** The ids and values behind the text. */
  readonly details: ErrorDetails

  constructor(code: string, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(printable(message), options)
    this.name = new.target.name
    this.code = code
    this.details = details
  }
}

/** A grant could not be mapped, copied or shared. */
export class GrantError extends XenError {
  /** A negative GNTST_* code, or a negative errno. */
  readonly status: number

  constructor(
    message: string,
    details: ErrorDetails & { readonly status: number },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_GRANT', message, details, options)
    this.status = details.status
  }
}

/** The arena has no free run of that many pages. */
export class ArenaFullError extends XenError {
  constructor(message: string, details: ErrorDetails, options?: ErrorOptions) {
    super('ERR_XEN_ARENA_FULL', message, details, options)
  }
}

/** An event channel could not be bound, notified or unbound. */
export class EvtchnError extends XenError {
  /** Name of the errno, such as `EINVAL`. */
  readonly errno: string

  constructor(
    message: string,
    details: ErrorDetails & { readonly errno: string },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_EVTCHN', message, details, options)
    this.errno = details.errno
  }
}

/**
 * xenstored refused an operation. `errno` is the name in its answer (`ENOENT`, `EACCES`, `EAGAIN`
 * ...).
 */
export class XenstoreError extends XenError {
  readonly errno: string

  constructor(
    message: string,
    details: ErrorDetails & { readonly errno: string },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_XENSTORE', message, details, options)
    this.errno = details.errno
  }
}

/**
 * Something that this machine needs is missing, such as Xen. The text says what to install or
 * start, or suggests the simulation.
 */
export class NotAvailableError extends XenError {
  constructor(message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super('ERR_XEN_NOT_AVAILABLE', message, details, options)
  }
}

/**
 * This hypervisor was closed, or its domain was destroyed. Unlike with other cases of
 * NotAvailableError, a later attempt fails too.
 */
export class HypervisorClosedError extends NotAvailableError {}

/** The other domain broke a rule of the protocol. */
export class PeerError extends XenError {}

/**
 * The six indices of a ring as this side sees them. Indices that the peer writes were read once.
 */
export interface RingIndices {
  readonly reqProd: number
  readonly reqEvent: number
  readonly rspProd: number
  readonly rspEvent: number
  /** This side's private producer: rsp_prod_pvt of a backend, req_prod_pvt of a frontend. */
  readonly producer: number
  /** This side's private consumer: req_cons of a backend, rsp_cons of a frontend. */
  readonly consumer: number
}

/**
 * The two indices of a ring of bytes: the private one of this side, and the peer's as it was read
 * once.
 */
export interface ByteRingIndices {
  readonly prod: number
  readonly cons: number
}

/** The peer moved a ring index, or filled a slot, in a way that no correct peer does. */
export class RingProtocolError extends PeerError {
  constructor(
    message: string,
    details: ErrorDetails & { readonly indices: RingIndices | ByteRingIndices },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_RING_PROTOCOL', message, details, options)
  }
}

/** A xenstore node of the peer is missing, or holds a value that can't be used. */
export class NegotiationError extends PeerError {
  constructor(
    message: string,
    details: {
      readonly node: string
      readonly value: string | undefined
      readonly expected: string
    },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_NEGOTIATION', message, details, options)
  }
}
