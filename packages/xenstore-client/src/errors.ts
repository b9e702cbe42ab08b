/** Error classes and texts of a xenstore connection. */
import { XenError, XenstoreError } from '@xenkit/hypervisor'
import { XS, xsTypeName } from '@xenkit/wire'

/**
 * A request got no answer. Either the connection is over, because this side closed it or it was
 * lost for good. Or it was lost while a request was in flight that must not be repeated; the
 * connection then continues, and that request may or may not have been done.
 */
export class XenstoreClosedError extends XenError {
  /** False if this side closed the connection. */
  readonly lost: boolean

  constructor(message: string, o: { readonly lost: boolean; readonly cause?: unknown }) {
    super('ERR_XEN_XENSTORE_CLOSED', message, {}, { cause: o.cause })
    this.lost = o.lost
  }
}

/** Meanings of errno names in xenstore's replies, where they aren't obvious. */
const meanings: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'no such node'],
  ['EACCES', 'no permission'],
  ['EPERM', 'only domain 0 may change the owner'],
  ['EAGAIN', 'the transaction conflicted with another'],
  ['E2BIG', 'too much for one message'],
  ['ENOMEM', "over the domain's quota of memory, or xenstored has none left"],
  ['ENOSYS', 'this xenstored does not know the operation'],
])

/**
 * Names of the quotas that a type of request can exceed. Reads can exceed the number of nodes in a
 * transaction.
 */
const quotas: ReadonlyMap<number, string> = new Map([
  [XS.TRANSACTION_START, 'transactions'],
  [XS.TRANSACTION_END, 'nodes'],
  [XS.WATCH, 'watches'],
  [XS.WRITE, 'nodes, or of bytes in one'],
  [XS.MKDIR, 'nodes, or of bytes in one'],
  [XS.SET_PERMS, 'permissions of a node'],
])

/**
 * Whether the errno reports an exceeded quota. C xenstored answers ENOSPC (up to 4.17 E2BIG for
 * watches), oxenstored EQUOTA.
 */
const namesQuota = (type: number, errno: string): boolean =>
  errno === 'ENOSPC' || errno === 'EQUOTA' || (errno === 'E2BIG' && type === XS.WATCH)

/** The parts of a request that an error names. */
export interface Asked {
  readonly type: number
  /** The path or domain that the request is about. */
  readonly subject: string
}

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

/**
 * Error for a request that xenstored answered with an errno name.
 * @param meaning explanation in brackets behind the errno. By default it names the quota of the
 *   domain that this type of request has exceeded, or else says what the errno means
 */
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

/**
 * Error for a request of a transaction that was lost with the connection: EAGAIN, as after a
 * conflict, so that the transaction runs again.
 */
export const transactionLost = (request: Asked): XenstoreError =>
  refused(request, 'EAGAIN', 'the transaction ended with the connection')

/** Error for a request that was in flight when the connection was lost and can't be repeated. */
export const lostOnTheWay = (request: Asked): XenstoreClosedError =>
  new XenstoreClosedError(
    `${operationOf(request)}: the connection was lost before the answer came; it may or may not have been done`,
    { lost: true },
  )

/** Whether an error means that xenstored answered `errno`. */
export const isRefusal = (error: unknown, errno: string): error is XenstoreError =>
  error instanceof XenstoreError && error.errno === errno

/**
 * Whether RM failed because of a torn snapshot. C xenstored copies nodes into a transaction when it
 * first reads them: a node can exist there without its parent, or without its name in the parent's
 * list. Only RM fails on that (do_rm in xenstored_core.c), and such a transaction could not be
 * committed any more.
 */
export const isTorn = (error: unknown): error is XenstoreError =>
  (isRefusal(error, 'EINVAL') || isRefusal(error, 'EIO')) &&
  error.details['operation'] === xsTypeName(XS.RM) &&
  error.details['subject'] !== '/'

/** Whether xenstored reports that the domain has used up its quota. */
export const isOverQuota = (error: unknown): error is XenstoreError =>
  isRefusal(error, 'ENOSPC') || isRefusal(error, 'EQUOTA')

/** Error for a reply that can't be parsed. */
export function malformed(type: number, answer: string, what: string): XenstoreError {
  const shown = JSON.stringify(answer.slice(0, 64))
  const message = `xenstore ${xsTypeName(type)}: EIO (${shown} is ${what})`
  return new XenstoreError(message, { errno: 'EIO', answer })
}
