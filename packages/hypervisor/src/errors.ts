/**
 * Errors say who is to blame. The caller: TypeError and RangeError, thrown synchronously. The
 * environment: subclasses of XenError. The peer, the other domain's half of a device: PeerError,
 * which closes that one device and nothing else.
 *
 * Text is lower case, names what it is about in double quotes and says what to do where that is
 * known. A XenError makes it printable: part of it may be the words of a guest or a server.
 */
import { printable } from './text.ts'

export type ErrorDetails = Readonly<Record<string, unknown>>

export class XenError extends Error {
  /** Stable, `ERR_XEN_...`. */
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

/**
 * A grant could not be mapped, copied or shared. `status` is a GNTST_* code or a negative errno.
 */
export class GrantError extends XenError {
  constructor(
    message: string,
    details: ErrorDetails & { readonly status: number },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_GRANT', message, details, options)
  }
}

/** The arena has no free run of that many pages. */
export class ArenaFullError extends XenError {
  constructor(message: string, details: ErrorDetails, options?: ErrorOptions) {
    super('ERR_XEN_ARENA_FULL', message, details, options)
  }
}

/** An event channel could not be bound, notified or unbound. `errno` is a name such as `EINVAL`. */
export class EvtchnError extends XenError {
  constructor(
    message: string,
    details: ErrorDetails & { readonly errno: string },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_EVTCHN', message, details, options)
  }
}

/**
 * xenstored refused an operation. `errno` is the name it answered with (`ENOENT`, `EACCES`,
 * `EAGAIN` ...).
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
 * What was asked for isn't there on this machine. The text says what to install or start, or that
 * sim exists.
 */
export class NotAvailableError extends XenError {
  constructor(message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super('ERR_XEN_NOT_AVAILABLE', message, details, options)
  }
}

/**
 * This hypervisor was closed, or its domain is gone. Unlike what else isn't available, it doesn't
 * come back.
 */
export class HypervisorClosedError extends NotAvailableError {}

/** The other domain broke a rule of the protocol. */
export class PeerError extends XenError {}

/** The six indices of a ring as this side sees them; shared ones were read once. */
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
 * The two indices of a ring of bytes: this side's private one, and the other side's as it was read,
 * once.
 */
export interface ByteRingIndices {
  readonly prod: number
  readonly cons: number
}

/** The other side moved a ring index, or filled a slot, in a way no correct peer does. */
export class RingProtocolError extends PeerError {
  constructor(
    message: string,
    details: ErrorDetails & { readonly indices: RingIndices | ByteRingIndices },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_RING_PROTOCOL', message, details, options)
  }
}

/** A xenstore node of the other side is missing or holds a value that can't be used. */
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
