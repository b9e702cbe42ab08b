/** Errors of a xenstore connection. */
import { XenError, XenstoreError } from '@xenkit/hypervisor'
import { xsTypeName } from '@xenkit/wire'

/** The connection is over: closed by this side, or lost. What was under way may or may not have been done. */
export class XenstoreClosedError extends XenError {
  /** False where this side closed it. */
  readonly lost: boolean

  constructor(message: string, o: { readonly lost: boolean; readonly cause?: unknown }) {
    super('ERR_XEN_XENSTORE_CLOSED', message, {}, { cause: o.cause })
    this.lost = o.lost
  }
}

/** What the errno names mean here, where that isn't obvious. */
const meanings: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'no such node'],
  ['EACCES', 'no permission'],
  ['EPERM', 'only domain 0 may change the owner'],
  ['EAGAIN', 'the transaction conflicted with another'],
  ['ENOSPC', 'over quota'],
  ['E2BIG', 'too much for one message, or over quota'],
  ['ENOSYS', 'this xenstored does not know the operation'],
])

/** @param subject the path or domain that was asked about */
export function refused(type: number, subject: string, errno: string): XenstoreError {
  const operation = xsTypeName(type)
  const meaning = meanings.get(errno)
  return new XenstoreError(`xenstore ${operation} "${subject}": ${errno}${meaning ? ` (${meaning})` : ''}`, { errno, operation, subject })
}

export const isRefusal = (error: unknown, errno: string): error is XenstoreError => error instanceof XenstoreError && error.errno === errno
