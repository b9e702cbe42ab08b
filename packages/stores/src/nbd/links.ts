/**
 * The connections of a store. A request goes to the connection with the fewest in flight. A lost
 * connection is opened again; its requests in flight go to another connection, or wait. Reads,
 * writes and trims can be done twice. A flush is sent after the writes that were in flight with it.
 *
 * A client can't tell a broken connection from a server that was killed. So it treats each new
 * connection as one to a new server, which has lost the writes that weren't flushed, and replays
 * the log of these. Nothing else is in flight on any connection during the replay, so that no old
 * write overwrites a newer one. The requests that the connection lost follow. The other
 * connections, if they reach a server at all, reach the same one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConnectionOptions } from 'node:tls'
import { NBD_CMD } from './protocol.ts'
import { NbdConnection, type Request } from './connection.ts'
import { type Geometry, expectNoLess, geometryOf } from './geometry.ts'
import { NbdError, asError } from './nbd-error.ts'
import { Turns } from './turns.ts'
import type { NbdTarget } from './uri.ts'
import { Waiting } from './waiting.ts'
import { WriteLog } from './write-log.ts'

/** Event of a connection to an NBD server. */
export type NbdEvent =
  /** `disconnected`: a connection was lost. `unreachable`: opening it again failed. */
  | { readonly kind: 'disconnected' | 'unreachable'; readonly error: Error }
  /**
   * `replayed`: number of writes and discards sent again, which were answered but not flushed
   * before.
   */
  | { readonly kind: 'reconnected'; readonly replayed: number }

export interface LinksOptions {
  readonly tls: ConnectionOptions
  readonly timeoutMs: number
  readonly reconnectMs: number
  readonly onEvent: (event: NbdEvent) => void
}

interface Link {
  /** The link's connection; undefined while one is being opened. */
  connection: NbdConnection | undefined
  /** Whether the link has lost a connection before. */
  lost: boolean
  /** Attempts to connect since the last connection that lasted. */
  attempts: number
}

/**
 * Milliseconds before the second attempt, doubled for each further one; the first starts at once.
 */
const DELAY_MS = 100
/**
 * Longest delay between attempts in ms. A connection that lasted longer resets the number of
 * attempts.
 */
const DELAY_MAX_MS = 5000

export class Links {
  readonly #target: NbdTarget
  readonly #o: LinksOptions
  readonly #links: Link[] = []
  readonly #listeners = new Set<() => void>()
  readonly #abort = new AbortController()
  #geometry: Geometry
  readonly #waiting: Waiting
  /** Lets one new connection at a time replay the log, while nothing else is in flight. */
  readonly #turns = new Turns(
    () => this.#links.every(({ connection }) => !connection || connection.load === 0),
    () => this.#sendWaiting(),
  )
  /** New connection that replays the log now. */
  #newcomer: NbdConnection | undefined
  readonly #log = new WriteLog({
    send: (request) => this.#dispatch(request),
    refuse: (request, error) => this.#finish(request, error),
    flush: () => this.#request(NBD_CMD.FLUSH, 0, 0, []),
  })
  /** Why the last connection was lost or couldn't be opened. */
  #reason: Error | undefined
  #unsettled = 0
  #settled: (() => void) | undefined
  #closed: Promise<void> | undefined

  /**
   * @param connections number of connections, if the server allows several
   * @throws NbdError if there is no server, or none that can serve a disk
   */
  static async open(target: NbdTarget, connections: number, o: LinksOptions): Promise<Links> {
    let first: NbdConnection | undefined
    try {
      first = await NbdConnection.open(target, { ...o, signal: new AbortController().signal })
      return new Links(target, first, geometryOf(first.info), connections, o)
    } catch (cause) {
      first?.destroy(new Error('the export is of no use'))
      throw new NbdError(
        `nbd export "${target.uri}" can't be opened: ${asError(cause).message}`,
        { uri: target.uri },
        { cause },
      )
    }
  }

  private constructor(
    target: NbdTarget,
    first: NbdConnection,
    geometry: Geometry,
    connections: number,
    o: LinksOptions,
  ) {
    this.#target = target
    this.#o = o
    this.#geometry = geometry
    this.#waiting = new Waiting(o.reconnectMs, (request) =>
      this.#settle(request, this.#error(`no answer within ${o.reconnectMs} ms`)),
    )
    this.#adopt(this.#add(), first)
    if (!this.#geometry.multiConn) return
    for (let i = 1; i < connections; i++) void this.#connect(this.#add())
  }

  get geometry(): Geometry {
    return this.#geometry
  }

  onGrown(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  submit(type: number, offset: number, length: number, data: readonly Uint8Array[]): Promise<void> {
    if (this.#closing) return Promise.reject(this.#error(CLOSED))
    return this.#request(type, offset, length, data)
  }

  /**
   * @throws NbdError if the flush fails, or a flush that the log made has failed since the last
   * call
   */
  async flush(): Promise<void> {
    await this.submit(NBD_CMD.FLUSH, 0, 0, [])
    const refusal = this.#log.takeRefusal()
    if (refusal) throw refusal
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#abort.abort(this.#error(CLOSED))
    this.#newcomer?.destroy(this.#error(CLOSED))
    this.#rejectWaiting()
    if (this.#unsettled > 0) await new Promise<void>((resolve) => (this.#settled = resolve))
    await Promise.all(this.#links.map(({ connection }) => connection?.close()))
  }

  get #closing(): boolean {
    return this.#abort.signal.aborted
  }

  #request(
    type: number,
    offset: number,
    length: number,
    data: readonly Uint8Array[],
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#unsettled++
      const request: Request = {
        type,
        offset,
        length,
        data,
        resolve,
        reject,
        answered: this.#log.answered,
        giveUpAt: undefined,
      }
      if (this.#isLogged(request)) this.#log.admit(request)
      else this.#dispatch(request)
    })
  }

  #add(): Link {
    const link: Link = { connection: undefined, lost: false, attempts: 0 }
    this.#links.push(link)
    return link
  }

  #adopt(link: Link, connection: NbdConnection): void {
    link.connection = connection
    connection.onSettled = this.#settle
    connection.onLost = (reason, requests) => this.#lost(link, connection, reason, requests)
  }

  readonly #settle = (request: Request, error: Error | undefined): void => {
    if (this.#isLogged(request)) this.#log.settled(request, error)
    else if (request.type === NBD_CMD.FLUSH && !error) this.#log.flushed(request.answered)
    this.#finish(request, error)
    this.#turns.look()
  }

  #finish(request: Request, error: Error | undefined): void {
    if (--this.#unsettled === 0) this.#settled?.()
    if (error) request.reject(error)
    else request.resolve()
  }

  /**
   * Whether a request is kept for a replay. If the server has no flush, an answered write is final.
   */
  #isLogged({ type }: Request): boolean {
    return this.#geometry.canFlush && (type === NBD_CMD.WRITE || type === NBD_CMD.TRIM)
  }

  #dispatch(request: Request): void {
    const best = this.#idlest()
    if (best && !this.#turns.wanted) return best.send(request)
    if (this.#closing) return this.#settle(request, this.#error(CLOSED))
    this.#waiting.add([request])
    if (!best) this.#waiting.limit([request])
  }

  #idlest(): NbdConnection | undefined {
    let best: NbdConnection | undefined
    for (const { connection } of this.#links) {
      if (connection && (!best || connection.load < best.load)) best = connection
    }
    return best
  }

  #lost(link: Link, connection: NbdConnection, reason: Error, requests: readonly Request[]): void {
    link.connection = undefined
    link.lost = true
    if (performance.now() - connection.openedAt > DELAY_MAX_MS) link.attempts = 0
    this.#reason = reason
    this.#waiting.add(requests)
    this.#waiting.giveUpLate()
    this.#waiting.limit(this.#idlest() && requests)
    this.#turns.look()
    if (this.#closing) return this.#rejectWaiting()
    this.#sendWaiting()
    void this.#connect(link)
    this.#o.onEvent({ kind: 'disconnected', error: reason })
  }

  #sendWaiting(): void {
    for (const request of this.#waiting.take()) this.#dispatch(request)
  }

  #rejectWaiting(): void {
    for (const request of this.#waiting.take()) this.#settle(request, this.#error(CLOSED))
  }

  #error(why: string): NbdError {
    const [reason, errno] =
      this.#reason && why !== CLOSED ? [`: ${this.#reason.message}`, 'ETIMEDOUT'] : ['', 'EBADF']
    return new NbdError(
      `nbd export "${this.#target.uri}": ${why}${reason}`,
      { uri: this.#target.uri, errno },
      { cause: this.#reason },
    )
  }

  /** Opens a connection for the link, and tries again until one is open. */
  async #connect(link: Link): Promise<void> {
    const { signal } = this.#abort
    let replayed: number | undefined
    while (replayed === undefined) {
      const delay =
        link.attempts === 0 ? 0 : Math.min(DELAY_MS * 2 ** (link.attempts - 1), DELAY_MAX_MS)
      link.attempts++
      replayed = await this.#attempt(link, delay, signal).catch((error: unknown) => {
        this.#reason = asError(error)
        if (!signal.aborted) this.#o.onEvent({ kind: 'unreachable', error: this.#reason })
        return undefined
      })
      if (signal.aborted) return
    }
    if (link.lost) this.#o.onEvent({ kind: 'reconnected', replayed })
  }

  /**
   * Opens a connection and replays the log.
   * @returns number of replayed changes
   * @throws Error if no server answers, the export has become less, or the replay fails
   */
  async #attempt(link: Link, delay: number, signal: AbortSignal): Promise<number> {
    await sleep(delay, undefined, { signal })
    const connection = await NbdConnection.open(this.#target, { ...this.#o, signal })
    try {
      const geometry = geometryOf(connection.info)
      expectNoLess(geometry, this.#geometry)
      return await this.#turns.take(async () => {
        signal.throwIfAborted()
        this.#newcomer = connection
        const replayed = await this.#log.replay(connection)
        this.#newcomer = undefined
        this.#adopt(link, connection)
        this.#grow(geometry.sectors)
        return replayed
      })
    } catch (error) {
      connection.destroy(asError(error))
      throw error
    }
  }

  #grow(sectors: number): void {
    if (sectors === this.#geometry.sectors) return
    this.#geometry = { ...this.#geometry, sectors }
    for (const listener of this.#listeners) listener()
  }
}

const CLOSED = 'the store is closed'
