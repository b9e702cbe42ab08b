/**
 * The connections of a store. A request goes to the one with the least in flight. A connection that is
 * lost is made anew, and what it had in flight goes to another or waits: reads, writes and trims can
 * be done twice, and a flush goes behind the writes that it was in flight with.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConnectionOptions } from 'node:tls'
import { NBD_CMD } from '@xenkit/wire'
import { NbdConnection, type Request } from './connection.ts'
import { type Geometry, expectNoLess, geometryOf } from './geometry.ts'
import { NbdError } from './nbd-error.ts'
import type { NbdTarget } from './uri.ts'

export type NbdEvent =
  /** A connection was lost; an attempt to make it anew failed. */
  | { readonly kind: 'disconnected' | 'unreachable'; readonly error: Error }
  /** `unflushed`: something that was written and answered was not flushed by then. If the server itself came down, it may have forgotten it. */
  | { readonly kind: 'reconnected'; readonly unflushed: boolean }

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
  /** In order, for want of a connection. */
  #waiting: Request[] = []
  #giveUp: NodeJS.Timeout | undefined
  /** Why there is no connection. */
  #reason: Error | undefined
  #unsettled = 0
  #settled: (() => void) | undefined
  #closed: Promise<void> | undefined
  /** Writes and trims that were answered, and how many of them a flush covered. */
  #written = 0
  #flushed = 0

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
      throw new NbdError(`nbd export "${target.uri}" can't be opened: ${asError(cause).message}`, { uri: target.uri }, { cause })
    }
  }

  private constructor(target: NbdTarget, first: NbdConnection, geometry: Geometry, connections: number, o: LinksOptions) {
    this.#target = target
    this.#o = o
    this.#geometry = geometry
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
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#error(CLOSED))
      this.#unsettled++
      this.#dispatch({ type, offset, length, data, resolve, reject, written: this.#written, giveUpAt: undefined })
    })
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#abort.abort(this.#error(CLOSED))
    this.#rejectWaiting(CLOSED)
    if (this.#unsettled > 0) await new Promise<void>((resolve) => (this.#settled = resolve))
    await Promise.all(this.#links.map(({ connection }) => connection?.close()))
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
    if (--this.#unsettled === 0) this.#settled?.()
    if (error) return request.reject(error)
    if (request.type === NBD_CMD.WRITE || request.type === NBD_CMD.TRIM) this.#written++
    if (request.type === NBD_CMD.FLUSH) this.#flushed = Math.max(this.#flushed, request.written)
    request.resolve()
  }

  #dispatch(request: Request): void {
    let best: NbdConnection | undefined
    for (const { connection } of this.#links) if (connection && (!best || connection.load < best.load)) best = connection
    if (best) best.send(request)
    else this.#wait([request])
  }

  #lost(link: Link, connection: NbdConnection, reason: Error, requests: readonly Request[]): void {
    link.connection = undefined
    link.lost = true
    if (performance.now() - connection.openedAt > DELAY_MAX_MS) link.attempts = 0
    this.#reason = reason
    this.#wait(requests)
    if (this.#closed) return this.#rejectWaiting(CLOSED)
    this.#rejectLate() // a request may be what makes the server drop its connections
    this.#sendWaiting()
    void this.#connect(link)
    this.#o.onEvent({ kind: 'disconnected', error: reason })
  }

  #wait(requests: readonly Request[]): void {
    const now = performance.now()
    for (const request of requests) request.giveUpAt ??= now + this.#o.reconnectMs
    this.#waiting.push(...requests)
    this.#planGiveUp()
  }

  #sendWaiting(): void {
    if (this.#waiting.length === 0 || !this.#links.some(({ connection }) => connection)) return
    const flushesLast = this.#waiting.toSorted((a, b) => Number(a.type === NBD_CMD.FLUSH) - Number(b.type === NBD_CMD.FLUSH))
    this.#waiting = []
    for (const request of flushesLast) this.#dispatch(request)
    this.#planGiveUp()
  }

  /** A timer exists only while something waits, and not for ever. */
  #planGiveUp(): void {
    clearTimeout(this.#giveUp)
    const first = Math.min(...this.#waiting.map(({ giveUpAt = Infinity }) => giveUpAt))
    if (first < Infinity) this.#giveUp = setTimeout(() => this.#rejectLate(), first - performance.now())
  }

  #rejectLate(): void {
    const now = performance.now()
    this.#rejectWaiting(`no answer within ${this.#o.reconnectMs} ms`, ({ giveUpAt = Infinity }) => giveUpAt <= now)
  }

  #rejectWaiting(why: string, which: (request: Request) => boolean = () => true): void {
    const rejected = this.#waiting.filter(which)
    this.#waiting = this.#waiting.filter((request) => !which(request))
    this.#planGiveUp()
    for (const request of rejected) this.#settle(request, this.#error(why))
  }

  #error(why: string): NbdError {
    const [reason, errno] = this.#reason && why !== CLOSED ? [`: ${this.#reason.message}`, 'ETIMEDOUT'] : ['', 'EBADF']
    return new NbdError(`nbd export "${this.#target.uri}": ${why}${reason}`, { uri: this.#target.uri, errno }, { cause: this.#reason })
  }

  /** Makes a connection for the link, however often that fails. */
  async #connect(link: Link): Promise<void> {
    const { signal } = this.#abort
    let connection: NbdConnection | undefined
    while (!connection) {
      const delay = link.attempts === 0 ? 0 : Math.min(DELAY_MS * 2 ** (link.attempts - 1), DELAY_MAX_MS)
      link.attempts++
      connection = await this.#attempt(delay, signal).catch((error: unknown) => {
        this.#reason = asError(error)
        if (!signal.aborted) this.#o.onEvent({ kind: 'unreachable', error: this.#reason })
        return undefined
      })
      if (signal.aborted) return void connection?.close()
    }
    this.#adopt(link, connection)
    this.#grow(geometryOf(connection.info).sectors)
    this.#sendWaiting()
    if (link.lost) this.#o.onEvent({ kind: 'reconnected', unflushed: this.#flushed < this.#written })
  }

  /** @throws Error if there is no server, or the export isn't any more what it was */
  async #attempt(delay: number, signal: AbortSignal): Promise<NbdConnection> {
    await sleep(delay, undefined, { signal })
    const connection = await NbdConnection.open(this.#target, { ...this.#o, signal })
    try {
      expectNoLess(geometryOf(connection.info), this.#geometry)
      return connection
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

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)))
