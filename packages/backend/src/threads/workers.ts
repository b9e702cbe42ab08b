/** The server's side of workers: assigns rings to them and follows what becomes of the rings. */
import { XenError, failuresOf, firstOf, textOf } from '@xenkit/hypervisor'
import type { BackendConnection, CloseOptions } from '@xenkit/xenbus'
import { followingSignal } from '../abandoned.ts'
import { packError, unpackError } from './crossing-error.ts'
import type { Abandon, Port, RingNews, RingOrders } from './messages.ts'

/** How long a worker may take to answer an `Abandon`, in milliseconds. */
const THREAD_TIMEOUT_MS = 1_000

/** A thread that runs `serveRings`. */
export interface RingThread extends AsyncDisposable {
  /** Port to the thread, whose other end was passed to `serveRings`. */
  readonly port: Port
  /** Resolves with the reason when the thread has ended. */
  readonly ended: Promise<unknown>
}

/**
 * A worker that served rings of the device ended before the device was closed, or no worker is
 * left.
 */
export class RingThreadError extends XenError {
  constructor(cause: unknown) {
    super(
      'ERR_XEN_RING_THREAD',
      `a thread that served rings of the device ended: ${cause instanceof Error ? cause.message : textOf(cause)}`,
      {},
      { cause },
    )
  }
}

/** Options of the pool's `connect`, and of each worker's part of the rings. */
interface PartOptions {
  /** Name of the `RingHost`, one of the hosts passed to `serveRings`. */
  readonly host: string
  /** Called when the rings can't be served any more. */
  readonly failed: (error: unknown) => void
  /** Called with each message of the host. The device package knows its type. */
  readonly told: (news: never) => void
  /** Called once no worker uses what `config` names, even if connecting failed. */
  readonly released: () => void
  /** Aborts when waiting for rows in flight ends. */
  readonly abandon: AbortSignal
}

/** Rings to spread over a pool's workers. */
export interface WorkersConnectOptions<Ring> extends PartOptions {
  readonly rings: readonly Ring[]
  /**
   * Creates the host's configuration for some of the rings: anything that structured clone accepts.
   * @param thread identifies the worker that serves them
   */
  readonly config: (rings: readonly Ring[], thread: object) => unknown
}

/**
 * A pool of threads that serve rings. Any number of servers, of any types of devices, may share it.
 */
export class Workers implements AsyncDisposable {
  readonly #threads = new Set<Thread>()
  readonly #all: readonly RingThread[]

  /** @param threads run `serveRings`; the pool closes them */
  constructor(threads: readonly RingThread[]) {
    this.#all = threads
    for (const { port, ended } of threads) {
      const thread = new Thread(port)
      this.#threads.add(thread)
      void ended.then((reason) => {
        this.#threads.delete(thread)
        thread.end(reason)
      })
    }
  }

  /** Number of threads that still run: one may have failed. */
  get count(): number {
    return this.#threads.size
  }

  /**
   * Connects the rings of a device, each in the worker that serves fewest rings. After an error
   * nothing stays connected.
   * @throws RingThreadError if a worker ends meanwhile, or none is left
   * @throws any other error that connecting threw in a worker
   */
  async connect<Ring>(o: WorkersConnectOptions<Ring>): Promise<Pick<BackendConnection, 'close'>> {
    if (this.count === 0) {
      o.released()
      throw new RingThreadError('none is left')
    }
    const parts = [...this.#spread(o.rings)].map(
      ([thread, rings]) => new RemoteRings(thread, rings.length, o.config(rings, thread), o),
    )
    void Promise.all(parts.map(({ released }) => released)).then(() => o.released())
    const closeAll = (how: CloseOptions): Promise<unknown[]> =>
      failuresOf(parts.map((part) => part.close(how)))
    const failures = await failuresOf(parts.map(({ connected }) => connected))
    if (failures.length > 0) throw firstOf([...failures, ...(await closeAll({ frontend: 'gone' }))])
    return {
      async close(how) {
        const errors = await closeAll(how)
        if (errors.length > 0) throw firstOf(errors)
      },
    }
  }

  /** Ends the threads. Close all devices that they serve first. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#all.map((thread) => thread[Symbol.asyncDispose]()))
  }

  #spread<Ring>(rings: readonly Ring[]): Map<Thread, Ring[]> {
    const spread = new Map<Thread, Ring[]>()
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
  readonly parts = new Set<RemoteRings>()

  constructor(port: Port) {
    this.port = port
  }

  get rings(): number {
    return [...this.parts].reduce((sum, { rings }) => sum + rings, 0)
  }

  end(reason: unknown): void {
    for (const part of this.parts) part.lost(new RingThreadError(reason))
  }
}

/** Rings of a device that one worker serves. */
class RemoteRings {
  readonly rings: number
  /** Resolves once connected; rejects with the error that connecting threw. */
  readonly connected: Promise<void>
  /** Resolves once the worker no longer uses what `config` names. */
  readonly released: Promise<void>
  readonly #closed: Promise<void>
  readonly #o: PartOptions
  readonly #thread: Thread
  readonly #port: Port
  #isConnected = false
  /** The outcome is known: nobody waits for the worker any more. */
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

  constructor(thread: Thread, rings: number, config: unknown, o: PartOptions) {
    const { port1, port2: port } = new MessageChannel()
    this.rings = rings
    this.connected = new Promise((resolve) => (this.#tellConnected = resolve))
    this.#closed = new Promise((resolve) => (this.#tellClosed = resolve))
    // No unhandled rejection: the worker may end before the device is closed.
    this.#closed.catch(() => {})
    this.released = new Promise((resolve) => (this.#tellReleased = resolve))
    this.#o = { ...o, abandon: followingSignal(o.abandon) }
    this.#thread = thread
    this.#port = port1
    thread.parts.add(this)
    port1.on('message', (news: RingNews<never>) => this.#hear(news))
    thread.port.postMessage({ port, host: o.host, config } satisfies RingOrders<unknown>, [port])
    const { abandon } = this.#o
    if (abandon.aborted) this.#abandon()
    abandon.addEventListener('abort', this.#abandon)
  }

  close(how: CloseOptions): Promise<void> {
    this.#port.postMessage(how)
    return this.#closed
  }

  /** Called when the thread has ended. */
  lost(error: RingThreadError): void {
    if (this.#isConnected && !this.#isSettled) this.#o.failed(error)
    this.#end(this.#isConnected ? undefined : error)
  }

  #hear(news: RingNews<never>): void {
    switch (news.kind) {
      case 'connected':
        this.#isConnected = true
        return this.#tellConnected()
      case 'failed':
        return this.#o.failed(unpackError(news.error))
      case 'told':
        return this.#o.told(news.news)
      case 'abandoned':
        return this.#abandoned(unpackError(news.error))
      case 'closed':
        this.#end(news.error && unpackError(news.error))
    }
  }

  #end(error: Error | undefined): void {
    this.#thread.parts.delete(this)
    this.#port.close()
    this.#tellReleased()
    this.#settle(error)
  }

  /** Settles although rows are in flight: the worker may report `closed` later. */
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
