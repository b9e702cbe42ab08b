/** Transactions, begun again after a conflict. */
import { XenstoreError } from '@xenkit/hypervisor'
import { XS } from '@xenkit/wire'
import type { Connection, TransactionScope } from './connection.ts'
import { isRefusal, isTorn } from './errors.ts'
import { RequestView } from './requests.ts'
import { sleep } from './sleep.ts'
import { strings } from './text.ts'
import type { XenstoreView } from './view.ts'

export interface TransactionOptions {
  /** Ends the attempts; the one under way is aborted when its body returns. */
  readonly signal?: AbortSignal
}

/** Attempts before a conflict is reported. With the delays below that is after about 2 s of nothing but conflicts. */
const ATTEMPTS_MAX = 40
const DELAY_MAX_MS = 100

/** Runs `body` until what it did has taken effect as a whole. */
export async function transact<T>(connection: Connection, body: (view: XenstoreView) => Promise<T>, o: TransactionOptions): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    o.signal?.throwIfAborted()
    const outcome = await attemptOnce(connection, body, o.signal)
    if (outcome.committed) return outcome.result
    if (attempt === ATTEMPTS_MAX) {
      throw outcome.torn ?? new XenstoreError(`xenstore transaction: EAGAIN (it conflicted with others ${ATTEMPTS_MAX} times: who keeps writing what it reads?)`, { errno: 'EAGAIN', attempts: ATTEMPTS_MAX })
    }
    // Random, so that two that got in each other's way don't do so again.
    await sleep(Math.random() * Math.min(2 ** attempt, DELAY_MAX_MS), o.signal)
  }
}

type Outcome<T> = { readonly committed: true; readonly result: T } | { readonly committed: false; readonly torn?: Error }

async function attemptOnce<T>(connection: Connection, body: (view: XenstoreView) => Promise<T>, signal: AbortSignal | undefined): Promise<Outcome<T>> {
  const scope = await connection.request<TransactionScope>({ type: XS.TRANSACTION_START, subject: '', head: '\0' }, (payload, epoch) => ({ id: Number(strings(payload)[0]), epoch, over: false }))
  const end = (verdict: 'T' | 'F'): Promise<void> => connection.request({ type: XS.TRANSACTION_END, transaction: scope, subject: '', head: `${verdict}\0` }, () => {})
  let result: T
  try {
    result = await body(new RequestView(connection, scope))
    signal?.throwIfAborted()
  } catch (error) {
    if (connection.hasLost(scope)) return { committed: false } // which may well be why
    await end('F').catch(() => {}) // the body's error is the one to hear of
    if (isTorn(error)) return { committed: false, torn: error }
    throw error
  } finally {
    scope.over = true
  }
  try {
    await end('T')
    return { committed: true, result }
  } catch (error) {
    if (isRefusal(error, 'EAGAIN')) return { committed: false }
    throw error
  }
}
