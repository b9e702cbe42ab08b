/** The server's part: which worker serves which rings, and what becomes of them. */
import { XenError, failuresOf, firstOf, textOf } from '@xenkit/hypervisor'
import type { BackendConnection, CloseOptions } from '@xenkit/xenbus'
import { packError, unpackError } from './crossing-error.ts'
import type { Abandon, Port, RingNews, RingOrders } from './messages.ts'

/** How long a worker may take to say whether rows are in flight that are waited for no longer. */
const THREAD_TIMEOUT_MS = 1_000

/** A thread that runs `serveRings`. */
export interface RingThread extends AsyncDisposable {
  /** The other end is what `serveRings` was called with. */
  readonly port: Port
  /** Resolves when the thread is no more, with the reason. */
  readonly ended: Promise<unknown>
}

/** A worker that served rings of the device ended before the device did. */
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

/** What both the pool and one worker's part of the rings need. */
interface PartOptions {
  /** Name of the `RingHost` among those of `serveRings`. */
  readonly host: string
  /** The rings can't be served any more. */
  readonly failed: (error: unknown) => void
  /** Called with what the host tells of: its server's part knows what that is. */
  readonly told: (news: never) => void
  /** Called once no worker uses what `config` names, were it that connecting failed. */
  readonly released: () => void
  /** Aborts when rows in flight are waited for no longer. */
  readonly abandon: AbortSignal
}

/** Rings to spread over a pool's workers. */
export interface WorkersConnectOptions<Ring> extends PartOptions {
  readonly rings: readonly Ring[]
  /**
   * What the host is given for some of the rings: anything that goes through structured clone.
   * @param thread stands for the worker that serves them
   */
  readonly config: (rings: readonly Ring[], thread: object) => unknown
}

/** A pool of threads that serve rings. Any number of servers, of all types of devices, share it. */
export class Workers implements AsyncDisposable {
  readonly #threads = new Set<Thread>()
  readonly #all: readonly RingThread[]

  /** @param threads closed by the pool */
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

  /** Threads that are left: one may have failed. */
  get count(): number {
    return this.#threads.size
  }

  /**
   * Connects the rings of a device, each in the worker that has fewest.
   * @throws what connecting threw in a worker, RingThreadError if one ends meanwhile or none is
   *   left; nothing stays connected
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

  /** Ends the threads, once nothing that they serve is open. */
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
  /** Rejects with what connecting threw. */
  readonly connected: Promise<void>
  /** Resolves when the worker uses nothing of `config` any more. */
  readonly released: Promise<void>
  readonly #closed: Promise<void>
  readonly #o: PartOptions
  readonly #thread: Thread
  readonly #port: Port
  #isConnected = false
  /** Nobody waits for the worker any more. */
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
    // The worker may end, and reject it, before somebody closes the device.
    this.#closed.catch(() => {})
    this.released = new Promise((resolve) => (this.#tellReleased = resolve))
    this.#o = o
    this.#thread = thread
    this.#port = port1
    thread.parts.add(this)
    port1.on('message', (news: RingNews<never>) => this.#hear(news))
    thread.port.postMessage({ port, host: o.host, config } satisfies RingOrders<unknown>, [port])
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

  /** The worker may still say that the rings are closed. */
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
