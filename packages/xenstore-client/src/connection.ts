/**
 * One connection to xenstored, shared by everything in a client. Requests are pipelined: all
 * requests of one tick leave in a single write (11 to 20 times the rate of one request at a time).
 * Replies are matched by req_id, watch events by token.
 *
 * A lost connection is made again. Requests that are safe to repeat are repeated, and watches are
 * set again. Open transactions are lost. All other requests in flight reject, because nobody knows
 * whether they were done.
 */
import { type ByteStream, HypervisorClosedError, type XenstorePort } from '@xenkit/hypervisor'
import { XS, xsTypeName, XsPacker, XsParser } from '@xenkit/wire'
import {
  type Asked,
  lostOnTheWay,
  refused,
  transactionLost,
  XenstoreClosedError,
} from './errors.ts'
import { sleep } from './sleep.ts'
import { text } from './text.ts'

/** One request, before it has a req_id. */
export interface Request extends Asked {
  /** First part of the payload; `data` follows it. */
  readonly head: string
  readonly data?: Uint8Array
  readonly transaction?: TransactionScope | undefined
}

/** A transaction as its requests need it, from its start until its body ends. */
export interface TransactionScope {
  readonly id: number
  /** The connection's `#epoch` when the transaction was started. */
  readonly epoch: number
  over: boolean
}

/** A watch as the connection sees it. */
export interface WatchListener {
  changed(path: string): void
  /**
   * Called when xenstored has no watches of this connection any more. The listener must set its
   * watch again.
   */
  forgotten(): void
  /** Called when the connection is over. No other call follows. */
  ended(error: XenstoreClosedError): void
}

/** A loss of the connection that was repaired. */
export interface Outage {
  /** Why the connection was lost. */
  readonly reason: Error
  readonly milliseconds: number
}

/** Options of `openXenstore`. */
export interface ConnectionOptions {
  /** Milliseconds of attempts to make a lost connection again, default 30000; 0 for no attempt. */
  readonly reconnectMs?: number | undefined
  /** Called once for each loss, after the connection works again. */
  readonly onReconnect?: ((outage: Outage) => void) | undefined
}

interface Pending {
  readonly request: Request
  /** The connection's `#epoch` when the request was sent. */
  epoch: number
  /** Called with the reply. `payload` is valid until the call returns. */
  resolve(payload: Uint8Array): void
  reject(error: Error): void
}

/** A period without a stable connection: when and why the period began. */
interface Silence {
  readonly reason: Error
  readonly since: number
  attempts: number
}

/** Requests that are safe to repeat: they change nothing that outlives the connection. */
const REPEATABLE: ReadonlySet<number> = new Set([
  XS.READ,
  XS.DIRECTORY,
  XS.DIRECTORY_PART,
  XS.GET_PERMS,
  XS.TRANSACTION_START,
  XS.GET_DOMAIN_PATH,
  XS.IS_DOMAIN_INTRODUCED,
  XS.GET_FEATURE,
  XS.GET_QUOTA,
])
const RECONNECT_MS = 30_000
/**
 * Most milliseconds between two attempts to connect; the delay doubles up to this. A new connection
 * that lasts this long counts as stable. One that is lost sooner counts as a failed attempt.
 */
const DELAY_MAX_MS = 1000

/** A connection to xenstored that is made again when it is lost. */
export class Connection {
  readonly #port: XenstorePort
  readonly #o: ConnectionOptions
  readonly #packer = new XsPacker()
  readonly #pending = new Map<number, Pending>()
  readonly #listeners = new Map<string, WatchListener>()
  /** The stream to xenstored; undefined while the connection is being made again. */
  #stream: ByteStream | undefined
  #lastReqId = 0
  /**
   * Prefix of this client's watch tokens. On a ring, events for an earlier client's watches may
   * still arrive, and their tokens have another prefix.
   */
  readonly #name = crypto.randomUUID().slice(0, 8)
  #lastToken = 0
  #connectedAt = 0
  #corked = false
  #over: XenstoreClosedError | undefined
  #silence: Silence | undefined
  /** Counts events that make xenstored forget watches and transactions: losses and resets. */
  #epoch = 0
  /** Highest epoch that took effect: transactions of an earlier epoch are forgotten. */
  #forgotten = 0

  private constructor(port: XenstorePort, o: ConnectionOptions) {
    this.#port = port
    this.#o = o
  }

  static async open(port: XenstorePort, o: ConnectionOptions): Promise<Connection> {
    const connection = new Connection(port, o)
    await connection.#connect()
    return connection
  }

  get isConnected(): boolean {
    return this.#stream !== undefined
  }

  /** Whether xenstored has forgotten the transaction, after a loss of the connection or a reset. */
  hasLost(transaction: TransactionScope): boolean {
    return transaction.epoch < this.#forgotten
  }

  /**
   * Sends a request, and retries it after a loss of the connection if that is safe.
   * @param decode converts the reply's payload, which is valid until `decode` returns
   * @throws XenstoreError if xenstored refuses it
   * @throws XenstoreClosedError when the connection is over, or lost while the outcome is unknown
   */
  request<T>(request: Request, decode: (payload: Uint8Array, epoch: number) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#over) throw this.#over
      if (request.transaction && this.hasLost(request.transaction)) throw transactionLost(request)
      const pending: Pending = {
        request,
        epoch: this.#epoch,
        resolve: (payload) => resolve(decode(payload, pending.epoch)),
        reject,
      }
      this.#send(pending)
    })
  }

  /**
   * Registers a watch's listener.
   * @returns the watch's token, unique among all clients
   * @throws XenstoreClosedError when the connection is over
   */
  addListener(listener: WatchListener): string {
    if (this.#over) throw this.#over
    const token = `${this.#name}-${++this.#lastToken}`
    this.#listeners.set(token, listener)
    return token
  }

  removeListener(token: string): void {
    this.#listeners.delete(token)
  }

  /**
   * Makes xenstored forget everything it holds for this connection, then sets this client's own
   * watches again.
   */
  async reset(): Promise<void> {
    const epoch = ++this.#epoch // transactions started from now on survive it
    await this.request({ type: XS.RESET_WATCHES, subject: '', head: '\0' }, () => {})
    this.#forgotten = Math.max(this.#forgotten, epoch)
    this.#setWatches()
  }

  close(): void {
    this.#end(new XenstoreClosedError('the xenstore client was closed', { lost: false }))
  }

  #send(pending: Pending): void {
    const { type, transaction, head, data } = pending.request
    const reqId = this.#nextReqId()
    this.#packer.append(type, reqId, transaction?.id ?? 0, head, data)
    pending.epoch = this.#epoch
    this.#pending.set(reqId, pending)
    this.#cork()
  }

  #nextReqId(): number {
    do this.#lastReqId = (this.#lastReqId + 1) >>> 0
    while (this.#pending.has(this.#lastReqId))
    return this.#lastReqId
  }

  #cork(): void {
    if (this.#corked) return
    this.#corked = true
    queueMicrotask(() => {
      this.#corked = false
      this.#flush()
    })
  }

  /** Sends queued requests. While there is no connection they stay queued. */
  #flush(): void {
    if (this.#stream && this.#packer.length > 0) this.#stream.write(this.#packer.take())
  }

  async #connect(): Promise<void> {
    const parser = new XsParser((type, reqId, _txId, payload) =>
      this.#receive(type, reqId, payload),
    )
    let ended: Error | undefined
    const end = (reason: Error): void => {
      ended = reason
      if (this.#stream) this.#drop(reason)
    }
    const stream = await this.#port.connect({
      data(bytes) {
        try {
          parser.push(bytes)
        } catch (error) {
          end(error instanceof Error ? error : new Error(String(error)))
        }
      },
      closed: end,
    })
    if (ended || this.#over) stream.close()
    if (ended) throw ended
    if (this.#over) return
    this.#stream = stream
    this.#connectedAt = Date.now()
  }

  #receive(type: number, reqId: number, payload: Uint8Array): void {
    if (this.#over) return
    if (type === XS.WATCH_EVENT) {
      const [path = '', token = ''] = text(payload).split('\0')
      this.#listeners.get(token)?.changed(path) // unknown: sent before the watch was removed
      return
    }
    const pending = this.#pending.get(reqId)
    if (!pending) throw new Error(`no request has the id ${reqId} of its ${xsTypeName(type)} reply`)
    const { request } = pending
    if (type !== request.type && type !== XS.ERROR) {
      throw new Error(`${xsTypeName(request.type)} was answered with ${xsTypeName(type)}`)
    }
    this.#pending.delete(reqId)
    if (type === XS.ERROR) {
      pending.reject(refused(request, text(payload).replace(/\0$/, '').slice(0, 32)))
    } else pending.resolve(payload)
  }

  /** Handles the end of the stream, or a message that can't be parsed. */
  #drop(reason: Error): void {
    if (this.#over) return
    this.#stream?.close()
    this.#stream = undefined
    const now = Date.now()
    const lasted = now - this.#connectedAt >= DELAY_MAX_MS
    if (!this.#silence || lasted) this.#silence = { reason, since: now, attempts: 0 }
    if (this.#reconnectMs === 0) this.#lose(reason)
    else {
      this.#forgotten = ++this.#epoch
      this.#sortOut()
      void this.#reconnect(this.#silence)
    }
  }

  get #reconnectMs(): number {
    return this.#o.reconnectMs ?? RECONNECT_MS
  }

  /**
   * After a loss of the connection, queues repeatable requests again and rejects the others that
   * were in flight.
   */
  #sortOut(): void {
    this.#packer.take() // sent or not, all requests are among the pending
    const pendings = [...this.#pending.values()]
    this.#pending.clear()
    for (const pending of pendings) {
      const { type, transaction } = pending.request
      if (transaction && type !== XS.TRANSACTION_END) {
        pending.reject(transactionLost(pending.request))
      } else if (REPEATABLE.has(type)) this.#send(pending)
      else pending.reject(lostOnTheWay(pending.request))
    }
  }

  async #reconnect(silence: Silence): Promise<void> {
    for (;;) {
      if (silence.attempts > 0) {
        await sleep(Math.min(2 ** silence.attempts, DELAY_MAX_MS), undefined)
      }
      if (this.#over) return
      if (Date.now() - silence.since > this.#reconnectMs) return this.#lose(silence.reason)
      silence.attempts++
      try {
        await this.#connect()
        break
      } catch (error) {
        if (error instanceof HypervisorClosedError) return this.#lose(silence.reason)
      }
    }
    if (this.#over) return
    this.#setWatches()
    this.#flush()
    this.#o.onReconnect?.({ reason: silence.reason, milliseconds: Date.now() - silence.since })
  }

  #setWatches(): void {
    for (const listener of this.#listeners.values()) listener.forgotten()
  }

  #lose(cause: unknown): void {
    this.#end(
      new XenstoreClosedError(
        `the connection to xenstored was lost: ${cause instanceof Error ? cause.message : String(cause)}`,
        { lost: true, cause },
      ),
    )
  }

  #end(error: XenstoreClosedError): void {
    if (this.#over) return
    this.#over = error
    this.#stream?.close()
    this.#stream = undefined
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
    for (const listener of this.#listeners.values()) listener.ended(error)
    this.#listeners.clear()
  }
}
