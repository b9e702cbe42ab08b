/**
 * The xenstore client: nodes, transactions, watches, `wait` and a toolstack's requests over one
 * connection.
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
 * Connects to xenstored. A lost connection, after a restart of xenstored for example, is made
 * again. Watches are then set again and yield their path, transactions run again, and reads and
 * queued requests are answered late. Other requests in flight reject with a XenstoreClosedError:
 * they may or may not have been done.
 *
 * @example
 * const xs = await openXenstore(hv.xenstore)
 * await xs.write('/local/domain/0/data/greeting', 'hello')
 * await xs.wait(async (view) =>
 *   (await view.readOptional('/local/domain/5/data/ready')) === '1' || undefined)
 *
 * @throws NotAvailableError when no xenstored answers
 * @throws HypervisorClosedError when the hypervisor is closed
 */
export async function openXenstore(
  port: XenstorePort,
  o: ConnectionOptions = {},
): Promise<XenstoreClient> {
  return new XenstoreClient(await Connection.open(port, o))
}

/**
 * A client of xenstored. One is enough for a program: its requests are pipelined. Every request
 * rejects with a XenstoreError if xenstored refuses it, or a XenstoreClosedError once the
 * connection is over.
 */
export class XenstoreClient extends DomainRequests implements Disposable {
  readonly #turns = new TransactionTurns()

  /**
   * Runs `body` on a view of its own. Its changes take effect as a whole when it returns, or not at
   * all when it throws. After a conflict with another client `body` runs again. So it must read
   * everything it depends on through the view, and do nothing else that can't be repeated.
   *
   * Transactions of one client run one after the other, except that one delays the next for a
   * second at most.
   * @throws XenstoreError after 40 attempts: EAGAIN if others kept writing nodes that it reads,
   *   ENOSPC if others held all transactions that the domain may have
   * @throws the signal's reason when it aborts, and whatever `body` throws
   */
  transaction<T>(body: (view: XenstoreView) => Promise<T>, o: TransactionOptions = {}): Promise<T> {
    return transact(this.connection, this.#turns, body, o)
  }

  /**
   * Yields paths at or below `path` that changed. It yields `path` itself first, and again whenever
   * too many paths changed to list. A path means that something there may have changed: several
   * changes may be reported as one, and now and then one that didn't happen. The iteration ends
   * when the loop is left, the signal aborts, or the client is closed. It throws when the
   * connection is lost for good.
   * @param path also `@introduceDomain` or `@releaseDomain`, which only domain 0 receives
   */
  watch(path: string, o: WatchOptions = {}): AsyncIterableIterator<string, undefined> {
    return new PathWatch(this.connection, path, o)
  }

  /**
   * Runs `body` until it returns something other than undefined: once at once, then whenever a node
   * that it has read changes. An error that `body` throws ends the wait and is passed on.
   */
  wait<T>(body: (view: XenstoreReader) => Promise<T | undefined>, o: WaitOptions = {}): Promise<T> {
    return waitFor(this.connection, this, body, o)
  }

  /**
   * Makes xenstored forget all watches and transactions of this connection. That includes those of
   * an earlier client, because a domain's ring outlives its kernel. This client's own watches are
   * set again, and its transactions run again.
   * @throws XenstoreError EACCES over /dev/xen/xenbus, where the watches belong to the kernel
   */
  resetWatches(): Promise<void> {
    return this.connection.reset()
  }

  /** Ends the connection. Watches end, everything else in flight rejects. Idempotent. */
  close(): void {
    this.connection.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
