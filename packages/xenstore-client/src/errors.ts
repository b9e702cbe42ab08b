/** Errors of a xenstore connection. */
import { XenError, XenstoreError } from '@xenkit/hypervisor'
import { XS, xsTypeName } from '@xenkit/wire'
import type { Request } from './connection.ts'

/**
 * There was no answer. Either the connection is over, closed by this side or lost for good; or it
 * was lost while a request was under way that must not be made twice, and goes on without it. Such
 * a request may or may not have been done.
 */
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
  ['E2BIG', 'too much for one message'],
  ['ENOMEM', "over the domain's quota of memory, or xenstored has none left"],
  ['ENOSYS', 'this xenstored does not know the operation'],
])

/** The quota that an operation can exceed. Reads exceed that of nodes in a transaction. */
const quotas: ReadonlyMap<number, string> = new Map([
  [XS.TRANSACTION_START, 'transactions'],
  [XS.TRANSACTION_END, 'nodes'],
  [XS.WATCH, 'watches'],
  [XS.WRITE, 'nodes, or of bytes in one'],
  [XS.MKDIR, 'nodes, or of bytes in one'],
  [XS.SET_PERMS, 'permissions of a node'],
])

/** C xenstored says ENOSPC, its releases up to 4.17 E2BIG of watches, and oxenstored EQUOTA. */
const namesQuota = (type: number, errno: string): boolean =>
  errno === 'ENOSPC' || errno === 'EQUOTA' || (errno === 'E2BIG' && type === XS.WATCH)

type Asked = Pick<Request, 'type' | 'subject'>

const operationOf = ({ type, subject }: Asked): string =>
  `xenstore ${xsTypeName(type)} "${subject}"`

function meaningOf(type: number, errno: string): string | undefined {
  if (namesQuota(type, errno)) {
    return `over the domain's quota of ${quotas.get(type) ?? 'nodes in a transaction'}`
  }
  if (type === XS.TRANSACTION_END && errno === 'ENOMEM') {
    return 'one of its requests failed, or a domain whose nodes it changes is gone'
  }
  return meanings.get(errno)
}

export function refused(
  request: Asked,
  errno: string,
  meaning = meaningOf(request.type, errno),
): XenstoreError {
  const { type, subject } = request
  return new XenstoreError(`${operationOf(request)}: ${errno}${meaning ? ` (${meaning})` : ''}`, {
    errno,
    operation: xsTypeName(type),
    subject,
  })
}

/** As after a conflict: it is to be run again. */
export const transactionLost = (request: Asked): XenstoreError =>
  refused(request, 'EAGAIN', 'the transaction ended with the connection')

export const lostOnTheWay = (request: Asked): XenstoreClosedError =>
  new XenstoreClosedError(
    `${operationOf(request)}: the connection was lost before the answer came; it may or may not have been done`,
    { lost: true },
  )

export const isRefusal = (error: unknown, errno: string): error is XenstoreError =>
  error instanceof XenstoreError && error.errno === errno

/**
 * C xenstored takes a transaction's snapshot node by node, as they are come by: a node can be there
 * without its parent, or without its name in the parent's list. RM alone stumbles over that (do_rm
 * in xenstored_core.c); such a transaction could not be committed any more.
 */
export const isTorn = (error: unknown): error is XenstoreError =>
  (isRefusal(error, 'EINVAL') || isRefusal(error, 'EIO')) &&
  error.details['operation'] === xsTypeName(XS.RM) &&
  error.details['subject'] !== '/'

/** xenstored has told that the domain uses as much as it may. */
export const isOverQuota = (error: unknown): error is XenstoreError =>
  isRefusal(error, 'ENOSPC') || isRefusal(error, 'EQUOTA')

/** An answer that makes no sense. */
export function malformed(type: number, answer: string, what: string): XenstoreError {
  const shown = JSON.stringify(answer.slice(0, 64))
  const message = `xenstore ${xsTypeName(type)}: EIO (${shown} is ${what})`
  return new XenstoreError(message, { errno: 'EIO', answer })
}
