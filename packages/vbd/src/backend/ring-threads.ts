/** The threads that serve rings for a server: who has which, and what becomes of them. */
import { XenError, failuresOf, firstOf } from '@xenkit/hypervisor'
import type { BackendConnection, CloseOptions, PublishedRing } from '@xenkit/xenbus'
import type { SharedStore } from '@xenkit/block-store'
import type { ConnectOptions } from './connect.ts'
import { packError, unpackError } from '@xenkit/backend'
import type { SharedLimits } from './limits.ts'
import type { Abandon, Port, RingNews, RingOrders } from './ring-messages.ts'
import type { DiskCounters } from './stats.ts'

/** How long a thread may take to say whether a store has answered that is waited for no longer. */
const THREAD_TIMEOUT_MS = 1_000

/** A thread that runs `serveRings`. */
export interface RingThread {
  /** The other end is what it was called with. */
  readonly port: Port
  /** Resolves when the thread is no more, with the reason. */
  readonly ended: Promise<unknown>
}

/** A thread that served rings of the disk ended before the disk did. */
export class RingThreadError extends XenError {
  constructor(cause: unknown) {
    super(
      'ERR_XEN_RING_THREAD',
      `a thread that served rings of the disk ended: ${cause instanceof Error ? cause.message : String(cause)}`,
      {},
      { cause },
    )
  }
}

export interface SpreadOptions extends Omit<ConnectOptions, 'store' | 'counters' | 'limits'> {
  readonly store: SharedStore
  readonly counters: DiskCounters
  readonly limits: SharedLimits
}

export class RingThreads {
  readonly #threads = new Set<Thread>()

  constructor(threads: readonly RingThread[]) {
    for (const { port, ended } of threads) {
      const thread = new Thread(port)
      this.#threads.add(thread)
      void ended.then((reason) => {
        this.#threads.delete(thread)
        thread.end(reason)
      })
    }
  }

  /** Whether one is left. */
  get exist(): boolean {
    return this.#threads.size > 0
  }

  /**
   * @param o.store is disposed of when no thread uses it any more, were it that connecting fails
   * @throws what connecting threw in a thread, RingThreadError if one ends meanwhile; nothing stays
   *   connected
   */
  async connect(o: SpreadOptions): Promise<Pick<BackendConnection, 'close'>> {
    // The last one may have ended since somebody looked.
    if (!this.exist) {
      o.store[Symbol.dispose]()
      throw new RingThreadError('none is left')
    }
    const disks = [...this.#spread(o.frontend.rings)].map(
      ([thread, rings]) => new RemoteDisk(thread, { ...o, frontend: { ...o.frontend, rings } }),
    )
    void Promise.all(disks.map(({ released }) => released)).then(() => o.store[Symbol.dispose]())
    const closeAll = (how: CloseOptions): Promise<unknown[]> =>
      failuresOf(disks.map((disk) => disk.close(how)))
    const failures = await failuresOf(disks.map(({ connected }) => connected))
    if (failures.length > 0) throw firstOf([...failures, ...(await closeAll({ frontend: 'gone' }))])
    return {
      async close(how) {
        const errors = await closeAll(how)
        if (errors.length > 0) throw firstOf(errors)
      },
    }
  }

  /** Each ring goes to the thread that has fewest. */
  #spread(rings: readonly PublishedRing[]): Map<Thread, PublishedRing[]> {
    const spread = new Map<Thread, PublishedRing[]>()
    const load = (thread: Thread): number => thread.rings + (spread.get(thread)?.length ?? 0)
    for (const ring of rings) {
      const thread = [...this.#threads].reduce((least, each) =>
        load(each) < load(least) ? each : least,
      )
      spread.set(thread, [...(spread.get(thread) ?? []), ring])
    }
    return spread
  }
}

class Thread {
  readonly port: Port
  readonly disks = new Set<RemoteDisk>()

  constructor(port: Port) {
    this.port = port
  }

  get rings(): number {
    return [...this.disks].reduce((sum, { rings }) => sum + rings, 0)
  }

  end(reason: unknown): void {
    for (const disk of this.disks) disk.lost(new RingThreadError(reason))
  }
}

/** Rings of a disk that another thread serves. */
class RemoteDisk {
  readonly rings: number
  /** Rejects with what connecting threw. */
  readonly connected: Promise<void>
  /** Resolves when the thread uses the store no more. */
  readonly released: Promise<void>
  readonly #closed: Promise<void>
  readonly #o: SpreadOptions
  readonly #thread: Thread
  readonly #port: Port
  #isConnected = false
  /** Nobody waits for the thread any more. */
  #isSettled = false
  #tellConnected: (outcome?: Promise<never>) => void = () => {}
  #tellClosed: (outcome?: Promise<never>) => void = () => {}
  #tellReleased: () => void = () => {}
  #patience: ReturnType<typeof setTimeout> | undefined
  readonly #abandon = (): void => {
    const { abandon } = this.#o
    this.#port.postMessage({ abandon: packError(abandon.reason) } satisfies Abandon)
    this.#patience = setTimeout(() => this.#abandoned(abandon.reason), THREAD_TIMEOUT_MS)
  }

  constructor(thread: Thread, o: SpreadOptions) {
    const { domid, frontend, limits, dataPath, store, counters } = o
    const { port1, port2: port } = new MessageChannel()
    this.rings = frontend.rings.length
    this.connected = new Promise((resolve) => (this.#tellConnected = resolve))
    this.#closed = new Promise((resolve) => (this.#tellClosed = resolve))
    // It may be told of before somebody closes the disk.
    this.#closed.catch(() => {})
    this.released = new Promise((resolve) => (this.#tellReleased = resolve))
    this.#o = o
    this.#thread = thread
    this.#port = port1
    thread.disks.add(this)
    port1.on('message', (news: RingNews) => this.#hear(news))
    const orders: RingOrders = {
      port,
      domid,
      frontend,
      limits,
      dataPath,
      store: { module: store.module, data: store.data },
      numbers: counters.of(thread).numbers,
    }
    thread.port.postMessage(orders, [port])
    if (o.abandon.aborted) this.#abandon()
    o.abandon.addEventListener('abort', this.#abandon)
  }

  close(how: CloseOptions): Promise<void> {
    this.#port.postMessage(how)
    return this.#closed
  }

  /** The thread is no more. */
  lost(error: RingThreadError): void {
    if (this.#isConnected && !this.#isSettled) this.#o.failed(error)
    this.#end(this.#isConnected ? undefined : error)
  }

  #hear(news: RingNews): void {
    switch (news.kind) {
      case 'connected':
        this.#isConnected = true
        return this.#tellConnected()
      case 'failed':
        return this.#o.failed(unpackError(news.error))
      case 'store-failed':
        return this.#o.storeFailed(unpackError(news.error))
      case 'abandoned':
        return this.#abandoned(unpackError(news.error))
      case 'closed':
        this.#end(news.error && unpackError(news.error))
    }
  }

  #end(error: Error | undefined): void {
    this.#thread.disks.delete(this)
    this.#port.close()
    this.#tellReleased()
    this.#settle(error)
  }

  /** The thread may still say that the disk is closed. */
  #abandoned(error: Error): void {
    this.#port.unref()
    this.#settle(error)
  }

  #settle(error: Error | undefined): void {
    if (this.#isSettled) return
    this.#isSettled = true
    clearTimeout(this.#patience)
    this.#o.abandon.removeEventListener('abort', this.#abandon)
    const outcome = error && Promise.reject(error)
    if (this.#isConnected) return this.#tellClosed(outcome)
    this.#tellConnected(outcome)
    this.#tellClosed()
  }
}
