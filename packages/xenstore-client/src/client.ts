/**
 * The client: nodes, transactions, watches and `wait` over one connection, and what a toolstack
 * asks of xenstored.
 */
import type { XenstorePort } from '@xenkit/hypervisor'
import { Connection, type ConnectionOptions } from './connection.ts'
import { DomainRequests } from './domains.ts'
import { transact, type TransactionOptions } from './transaction.ts'
import { TransactionTurns } from './transaction-turns.ts'
import type { XenstoreReader, XenstoreView } from './view.ts'
import { waitFor, type WaitOptions } from './wait.ts'
import { PathWatch, type WatchOptions } from './watch.ts'

/**
 * Connects to xenstored. When the connection is lost, by a restart of xenstored for example, it is
 * made anew: watches are set again and yield their path, reads and what was asked meanwhile are
 * answered later, transactions run again. Other requests that were under way then reject with a
 * XenstoreClosedError: they may or may not have been done.
 *
 * @example
 * const xs = await openXenstore(hv.xenstore)
 * await xs.write('/local/domain/0/data/greeting', 'hello')
 * await xs.wait(async (view) => (await view.readOptional('/local/domain/5/data/ready')) === '1' ||
 * undefined)
 *
 * @throws NotAvailableError when no xenstored answers
 */
export async function openXenstore(
  port: XenstorePort,
  o: ConnectionOptions = {},
): Promise<XenstoreClient> {
  return new XenstoreClient(await Connection.open(port, o))
}

export class XenstoreClient extends DomainRequests implements Disposable {
  readonly #turns = new TransactionTurns()

  /**
   * Runs `body` on a view of its own; what it does takes effect as a whole when it returns, or not
   * at all when it throws. After a conflict with another client it is run again, so it has to read
   * anew everything that it depends on, and do nothing else that can't be done twice.
   *
   * Transactions of one client run one after the other. One that takes longer than a second doesn't
   * hold up the next any longer.
   * @throws XenstoreError after 40 attempts: EAGAIN if others kept writing what it reads, ENOSPC if
   * others had all the transactions that the domain may have
   */
  transaction<T>(body: (view: XenstoreView) => Promise<T>, o: TransactionOptions = {}): Promise<T> {
    return transact(this.connection, this.#turns, body, o)
  }

  /**
   * Yields paths at or below `path` that changed; `path` itself first of all, and again whenever
   * more changed than is worth listing. A change tells that there is something to look at, not
   * what: several may be reported as one, and now and then one that wasn't. Ends when the loop is
   * left, when the signal is aborted or the client is closed; throws when the connection is lost.
   * @param path may be `@introduceDomain` or `@releaseDomain`, which only domain 0 hears of
   */
  watch(path: string, o: WatchOptions = {}): AsyncIterableIterator<string, undefined> {
    return new PathWatch(this.connection, path, o)
  }

  /**
   * Runs `body` until it returns something else than undefined: once at first, then whenever a node
   * that it has read changes. What it throws ends the waiting.
   */
  wait<T>(body: (view: XenstoreReader) => Promise<T | undefined>, o: WaitOptions = {}): Promise<T> {
    return waitFor(this.connection, this, body, o)
  }

  /**
   * Makes xenstored forget all watches and transactions of this connection, those too that an
   * earlier user left behind: a domain's ring outlives its kernel. Own watches are set again,
   * transactions run again. Over /dev/xen/xenbus that is refused (EACCES): the watches there are
   * the kernel's.
   */
  resetWatches(): Promise<void> {
    return this.connection.reset()
  }

  /** Ends the connection: watches end, whatever else is under way rejects. Idempotent. */
  close(): void {
    this.connection.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
