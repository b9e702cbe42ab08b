/** What goes wrong with an NBD server. */
import { XenError } from '@xenkit/hypervisor'

/**
 * The export can't be served, a request was refused, or the server is away. `details` has the URI
 * and, where there is one, the errno name: the server's own, ETIMEDOUT when it stayed away too
 * long.
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
 * The server's bytes aren't NBD. There is no way to find the next message: that connection is
 * ended.
 */
export class NbdProtocolError extends XenError {
  constructor(message: string, details: { readonly field: string; readonly value: unknown }) {
    super('ERR_XEN_NBD_PROTOCOL', message, details)
  }
}

/** @throws NbdProtocolError unless the field of a message has the value that it must have */
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
