/** Errors of NBD stores. */
import { XenError } from '@xenkit/hypervisor'

/**
 * An export can't be served, a request was refused, or the server is away. `details` has the URI
 * and the errno name, if there is one: the server's own, or ETIMEDOUT if it was away too long.
 */
export class NbdError extends XenError {
  constructor(
    message: string,
    details: { readonly uri: string; readonly errno?: string },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_NBD', message, details, options)
  }
}

/**
 * A server's bytes aren't NBD. The connection ends, because the next message can't be found.
 */
export class NbdProtocolError extends XenError {
  constructor(message: string, details: { readonly field: string; readonly value: unknown }) {
    super('ERR_XEN_NBD_PROTOCOL', message, details)
  }
}

/** @throws NbdProtocolError unless a message's field has the expected value */
export function expectField(
  field: string,
  value: number | bigint,
  expected: number | bigint,
): void {
  if (value === expected) return
  throw new NbdProtocolError(
    `nbd field "${field}" expected 0x${expected.toString(16)}, got 0x${value.toString(16)}`,
    { field, value },
  )
}

/** Whatever was thrown, as an error. */
export const asError = (reason: unknown): Error =>
  reason instanceof Error ? reason : new Error(String(reason))
