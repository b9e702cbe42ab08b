/**
 * The connections of a store. A request goes to the one with the least in flight. A connection that
 * is lost is made anew, and what it had in flight goes to another or waits: reads, writes and trims
 * can be done twice, and a flush goes behind the writes that it was in flight with.
 *
 * Nobody can tell a connection that broke from a server that was killed. So a new connection is
 * taken for one to a new server, which has forgotten what wasn't flushed: the log of that is done
 * again, with nothing else in flight on any connection, for an old write must not land on a newer
 * one. What was lost comes after it. The others, if they reach any server at all, then reach that
 * same one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConnectionOptions } from 'node:tls'
import { NBD_CMD } from './protocol.ts'
import { NbdConnection, type Request } from './connection.ts'
import { type Geometry, expectNoLess, geometryOf } from './geometry.ts'
import { NbdError } from './nbd-error.ts'
import { Turns } from './turns.ts'
import type { NbdTarget } from './uri.ts'
import { Waiting } from './waiting.ts'
import { WriteLog } from './write-log.ts'

export type NbdEvent =
  /** A connection was lost; an attempt to make it anew failed. */
  | { readonly kind: 'disconnected' | 'unreachable'; readonly error: Error }
  /**
   * `replayed`: so many writes and discards that had been answered and not flushed were done again.
   */
  | { readonly kind: 'reconnected'; readonly replayed: number }

export interface LinksOptions {
  readonly tls: ConnectionOptions
  readonly timeoutMs: number
  readonly reconnectMs: number
  readonly onEvent: (event: NbdEvent) => void
}

interface Link {
  /** Undefined while it is being made anew. */
  connection: NbdConnection | undefined
  /** It is not the first that is being made. */
  lost: boolean
  /** Since a connection lasted. */
  attempts: number
}

/** Milliseconds between two attempts: none before the first, then this, doubled each time. */
const DELAY_MS = 100
/** Most of it. A connection that lasted longer was a good one. */
const DELAY_MAX_MS = 5000

export class Links {
  readonly #target: NbdTarget
  readonly #o: LinksOptions
  readonly #links: Link[] = []
  readonly #listeners = new Set<() => void>()
  readonly #abort = new AbortController()
  #geometry: Geometry
  readonly #waiting: Waiting
  /** Those of connections that are new. */
  readonly #turns = new Turns(
    () => this.#links.every(({ connection }) => !connection || connection.load === 0),
    () => this.#sendWaiting(),
  )
  /** Has its turn. */
  #newcomer: NbdConnection | undefined
  readonly #log = new WriteLog({
    send: (request) => this.#dispatch(request),
    refuse: (request, error) => this.#finish(request, error),
    flush: () => this.#request(NBD_CMD.FLUSH, 0, 0, []),
  })
  /** Why there is no connection. */
  #reason: Error | undefined
  #unsettled = 0
  #settled: (() => void) | undefined
  #closed: Promise<void> | undefined

  /**
   * @param connections how many, if the server allows for several
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

  /** @throws NbdError also if one of the log's own has failed since the last */
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

  /** Where there is no flush, a write that was answered is as good as it gets. */
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

  /** Makes a connection for the link, however often that fails. */
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
   * @throws Error if there is no server, the export isn't any more what it was, or what it forgot
   * can't be done again
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

const asError = (reason: unknown): Error =>
  reason instanceof Error ? reason : new Error(String(reason))
