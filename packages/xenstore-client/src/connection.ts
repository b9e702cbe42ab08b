/**
 * One connection to xenstored, shared by everything that goes on in a client. Requests are
 * pipelined: all of one tick leave in a single write (11 to 20 times the rate of one request at a
 * time), replies are matched by req_id, watch events by token.
 *
 * A connection that is lost is made anew. What can be asked twice is asked again, watches are set
 * again, transactions are over, and of the rest nobody knows whether it was done.
 */
import { type ByteStream, HypervisorClosedError, type XenstorePort } from '@xenkit/hypervisor'
import { XS, xsTypeName, XsPacker, XsParser } from '@xenkit/wire'
import { lostOnTheWay, refused, transactionLost, XenstoreClosedError } from './errors.ts'
import { sleep } from './sleep.ts'
import { text } from './text.ts'

export interface Request {
  readonly type: number
  /** The path or domain that is asked about, for the text of errors. */
  readonly subject: string
  /** The payload is `head` and then `data`. */
  readonly head: string
  readonly data?: Uint8Array
  readonly transaction?: TransactionScope | undefined
}

/** A transaction as long as its body runs. */
export interface TransactionScope {
  readonly id: number
  /** The connection's epoch when it was started. */
  readonly epoch: number
  over: boolean
}

/** Hears of one watch, and sets it. */
export interface WatchListener {
  changed(path: string): void
  /** xenstored has no watches of this connection any more. */
  forgotten(): void
  /** The connection is over. */
  ended(error: XenstoreClosedError): void
}

export interface Outage {
  /** Why the connection was lost. */
  readonly reason: Error
  readonly milliseconds: number
}

export interface ConnectionOptions {
  /** How long a lost connection is tried to be made anew, default 30000; 0: it isn't. */
  readonly reconnectMs?: number | undefined
  /** Told once of each loss that was made good, when everything is under way again. */
  readonly onReconnect?: ((outage: Outage) => void) | undefined
}

interface Pending {
  readonly request: Request
  /** Of the connection when it was sent. */
  epoch: number
  /** `payload` is valid until it returns. */
  resolve(payload: Uint8Array): void
  reject(error: Error): void
}

/** A time without a connection that holds: since when, and why. */
interface Silence {
  readonly reason: Error
  readonly since: number
  attempts: number
}

/** Change nothing but what ends with the connection. */
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
 * Milliseconds between two attempts: doubled each time, up to this. A connection that lasts as long
 * ends the silence; one that is lost sooner was another attempt.
 */
const DELAY_MAX_MS = 1000

export class Connection {
  readonly #port: XenstorePort
  readonly #o: ConnectionOptions
  readonly #packer = new XsPacker()
  readonly #pending = new Map<number, Pending>()
  readonly #listeners = new Map<string, WatchListener>()
  /** Undefined while it is being made anew. */
  #stream: ByteStream | undefined
  #lastReqId = 0
  /** Begins the tokens of its watches. On a ring, events of an earlier client's may still come. */
  readonly #name = crypto.randomUUID().slice(0, 8)
  #lastToken = 0
  #connectedAt = 0
  #corked = false
  #over: XenstoreClosedError | undefined
  #silence: Silence | undefined
  /** Counts what makes xenstored forget watches and transactions: losses, and requests to reset. */
  #epoch = 0
  /** The last of these that took effect: what was started in an earlier epoch is forgotten. */
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

  /** Whether xenstored has forgotten the transaction. */
  hasLost(transaction: TransactionScope): boolean {
    return transaction.epoch < this.#forgotten
  }

  /**
   * @param decode takes from the reply's payload what the caller wants; it is valid until this
   * returns
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
   * A token for a watch, unique among all clients; its events go to `listener` from now on.
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
   * Makes xenstored forget what it holds for this connection, whoever left it there; own watches
   * are set again.
   */
  async reset(): Promise<void> {
    const epoch = ++this.#epoch // transactions that are started from now on come after it
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

  /** What is asked for meanwhile waits until there is a connection again. */
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
      this.#listeners.get(token)?.changed(path) // unknown: on its way when the watch was taken back
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

  /** The stream has ended, or makes no sense. */
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

  /** Answers what was under way and can't be asked again. */
  #sortOut(): void {
    this.#packer.take() // sent or not: all of it is among the pending
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
