/** Runs transactions one after the other, and again after a conflict with another client. */
import { UINT32_MAX, XenstoreError } from '@xenkit/hypervisor'
import { XS } from '@xenkit/wire'
import type { Connection, TransactionScope } from './connection.ts'
import { isOverQuota, isRefusal, isTorn, malformed } from './errors.ts'
import { parseDecimal } from './parse.ts'
import { RequestView } from './requests.ts'
import { sleep } from './sleep.ts'
import { strings } from './text.ts'
import type { TransactionTurns } from './transaction-turns.ts'
import type { XenstoreView } from './view.ts'

/** Options of `XenstoreClient.transaction`. */
export interface TransactionOptions {
  /** Ends the attempts when it aborts; a running body completes first, and is then rolled back. */
  readonly signal?: AbortSignal
}

/** Attempts of a transaction before its failure is reported: about 2 s with the delays below. */
const ATTEMPTS_MAX = 40
const DELAY_MAX_MS = 100

type Body<T> = (view: XenstoreView) => Promise<T>

/** Runs `body` until its changes have taken effect as a whole. See `XenstoreClient.transaction`. */
export async function transact<T>(
  connection: Connection,
  turns: TransactionTurns,
  body: Body<T>,
  o: TransactionOptions,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const endTurn = await turns.take(o.signal)
    const outcome = await attemptOnce(connection, body, o.signal).finally(endTurn)
    if (outcome.committed) return outcome.result
    if (attempt === ATTEMPTS_MAX) throw outcome.error
    // A random delay, so that two clients that conflicted don't conflict again.
    await sleep(Math.random() * Math.min(2 ** attempt, DELAY_MAX_MS), o.signal)
  }
}

type Outcome<T> =
  | { readonly committed: true; readonly result: T }
  /** The transaction must run again. `error` is thrown if this was the last attempt. */
  | { readonly committed: false; readonly error: unknown }

function conflict(): XenstoreError {
  const reason = `it conflicted with others ${ATTEMPTS_MAX} times: another client keeps writing nodes that it reads`
  const details = { errno: 'EAGAIN', attempts: ATTEMPTS_MAX }
  return new XenstoreError(`xenstore transaction: EAGAIN (${reason})`, details)
}

async function attemptOnce<T>(
  connection: Connection,
  body: Body<T>,
  signal: AbortSignal | undefined,
): Promise<Outcome<T>> {
  let scope: TransactionScope
  try {
    scope = await start(connection)
  } catch (error) {
    // Other programs of this domain, or its kernel, hold all transactions that it may have. Try
    // again, because theirs will end.
    if (isOverQuota(error)) return { committed: false, error }
    throw error
  }
  let result: T
  try {
    result = await body(new RequestView(connection, scope))
    signal?.throwIfAborted()
  } catch (error) {
    // If the transaction was lost with the connection, that probably caused the error: run it
    // again.
    if (await isLost(connection, scope)) return { committed: false, error }
    await end(connection, scope, 'F').catch(() => {}) // report the body's error, not this one
    if (isTorn(error)) return { committed: false, error }
    throw error
  } finally {
    scope.over = true
  }
  try {
    await end(connection, scope, 'T')
    return { committed: true, result }
  } catch (error) {
    // ENOENT: xenstored doesn't know the transaction.
    if (!isRefusal(error, 'EAGAIN') && !isRefusal(error, 'ENOENT')) throw error
    return { committed: false, error: conflict() }
  }
}

async function start(connection: Connection): Promise<TransactionScope> {
  const type = XS.TRANSACTION_START
  const { answer, epoch } = await connection.request(
    { type, subject: '', head: '\0' },
    (payload, sent) => ({ answer: strings(payload)[0] ?? '', epoch: sent }),
  )
  const id = parseDecimal(answer, { min: 1, max: UINT32_MAX }) // 0 means no transaction
  if (id === undefined) throw malformed(type, answer, 'not a transaction id')
  return { id, epoch, over: false }
}

function end(
  connection: Connection,
  transaction: TransactionScope,
  verdict: 'T' | 'F',
): Promise<void> {
  const type = XS.TRANSACTION_END
  return connection.request({ type, transaction, subject: '', head: `${verdict}\0` }, () => {})
}

/**
 * Whether xenstored has forgotten the transaction. A domain that was restored or migrated talks to
 * a xenstored that never knew it. C xenstored then answers ENOENT even for `/`, which always
 * exists; oxenstored answers EIO.
 */
async function isLost(connection: Connection, transaction: TransactionScope): Promise<boolean> {
  try {
    await connection.request({ type: XS.READ, transaction, subject: '/', head: '/\0' }, () => {})
    return false
  } catch (error) {
    return connection.hasLost(transaction) || isRefusal(error, 'ENOENT') || isRefusal(error, 'EIO')
  }
}
