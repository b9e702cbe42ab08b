/**
 * What waits to be delivered to one client: replies and events, in order. It is delivered whole, in
 * the client's next turn.
 *
 * It is bounded: while it is full no more requests are taken, an event that waits already isn't
 * queued again, an event beyond its domain's quota is dropped, and a client that has too many
 * waiting loses the connection.
 */
import type { ByteStreamReceiver } from '@xenkit/hypervisor'
import { XENSTORE_PAYLOAD_MAX, XS, XsPacker, xsdSockmsg } from '@xenkit/wire'
import type { Domain } from './domain.ts'
import type { Outstanding } from './outstanding.ts'

/** Bytes that wait before the client's next requests have to. */
const FULL = 256 * 1024
/** Bytes that may wait at all: some hundred thousand events. */
const BYTES_MAX = 16 * 1024 * 1024
/**
 * After this long an event that an unprivileged client doesn't take is no longer on the account of
 * who caused it.
 */
const EVENT_TIMEOUT_MS = 20_000

export class Outbox {
  readonly #receiver: ByteStreamReceiver
  readonly #domain: Domain
  #packer = new XsPacker()
  /** The receiver may cause events while it is given what was packed: they go here. */
  #spare = new XsPacker()
  /** Events within `#packer`. */
  readonly #events = new Set<string>()
  /** The requests whose replies are within `#packer`. */
  #answered: Outstanding[] = []
  /** Those whose events are. */
  #causes: Outstanding[] = []
  #isPaused = false
  #timer: ReturnType<typeof setInterval> | undefined
  #endReason: Error | undefined

  constructor(receiver: ByteStreamReceiver, domain: Domain) {
    this.#receiver = receiver
    this.#domain = domain
  }

  get isFull(): boolean {
    return this.#packer.length >= FULL
  }

  get isOverflowing(): boolean {
    return this.#packer.length > BYTES_MAX
  }

  get length(): number {
    return this.#packer.length
  }

  /** @param text in ASCII */
  reply(
    type: number,
    reqId: number,
    txId: number,
    text: string,
    data: Uint8Array | undefined,
    request: Outstanding | undefined,
  ): void {
    this.#append(type, reqId, txId, text, data)
    if (request) this.#answered.push(request.queued())
  }

  /**
   * Events that no message can hold are dropped, as xenstored does.
   * @param token with its NUL
   * @param cause the request that caused it
   */
  event(path: string, token: Uint8Array, tokenKey: string, cause: Outstanding | undefined): void {
    const length = path.length + 1 + token.length
    if (length > XENSTORE_PAYLOAD_MAX) return
    // A special event stands for one domain each time: those are never merged.
    const key = path.startsWith('@') ? undefined : `${path}\0${tokenKey}`
    if (key !== undefined && this.#events.has(key)) return
    if (!this.#domain.hasMemory(xsdSockmsg.size + length)) return
    if (key !== undefined) this.#events.add(key)
    this.#append(XS.WATCH_EVENT, 0, 0, `${path}\0`, token)
    if (cause) this.#causes.push(cause.queued())
  }

  /** Holds back deliveries, for a receiver that can't take them now; `resume` lets them go on. */
  pause(): void {
    this.#isPaused = true
    if (!this.#domain.isPrivileged) {
      this.#timer ??= setInterval(() => this.#settleEvents(), EVENT_TIMEOUT_MS).unref()
    }
  }

  resume(): void {
    this.#isPaused = false
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Delivers all that waits. */
  flush(): void {
    if (this.#isPaused) return
    const packed = this.#packer
    if (packed.length > 0) {
      this.#packer = this.#spare
      this.#spare = packed
      const bytes = packed.take()
      this.#emptied(bytes.length)
      this.#receiver.data(bytes)
    }
    const reason = this.#endReason
    this.#endReason = undefined
    if (reason) this.#receiver.closed(reason)
  }

  /** Tells the receiver, after all that it was already sent, that this was all. */
  end(reason: Error): void {
    this.#endReason = reason
  }

  /** Throws away what waits; there is nothing left to hold back. */
  drop(): void {
    this.resume()
    this.#emptied(this.#packer.take().length)
    this.#endReason = undefined
  }

  #append(type: number, reqId: number, txId: number, text: string, data?: Uint8Array): void {
    const before = this.#packer.length
    this.#packer.append(type, reqId, txId, text, data)
    this.#domain.use('memory', this.#packer.length - before)
  }

  #emptied(bytes: number): void {
    this.#events.clear()
    this.#domain.use('memory', -bytes)
    for (const request of this.#answered.splice(0)) request.gone()
    this.#settleEvents()
  }

  #settleEvents(): void {
    for (const cause of this.#causes.splice(0)) cause.gone()
  }
}
