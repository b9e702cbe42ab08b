/**
 * Replies and events that wait for delivery to one client, in order. All of them are delivered
 * together, when the server next works for the client.
 *
 * The queue is bounded. While it is full, no more requests are processed. An event equal to a
 * queued one isn't queued again. An event beyond its domain's quota is dropped. A client with too
 * many queued bytes is disconnected.
 */
import type { ByteStreamReceiver } from '@xenkit/hypervisor'
import { XENSTORE_PAYLOAD_MAX, XS, XsPacker, xsdSockmsg } from '@xenkit/wire'
import type { Domain } from './domain.ts'
import type { Outstanding } from './outstanding.ts'

/** Queued bytes from which on the client's requests wait. */
const FULL = 256 * 1024
/** Queued bytes at which the client is disconnected: some hundred thousand events. */
const BYTES_MAX = 16 * 1024 * 1024
/**
 * Milliseconds after which an event that an unprivileged client doesn't take no longer counts as
 * outstanding for the domain that caused it.
 */
const EVENT_TIMEOUT_MS = 20_000

/** The queue of a connection's replies and events. */
export class Outbox {
  readonly #receiver: ByteStreamReceiver
  readonly #domain: Domain
  #packer = new XsPacker()
  /**
   * Collects messages while the receiver is given those in `#packer`, since the receiver may cause
   * events.
   */
  #spare = new XsPacker()
  /** Keys of the events in `#packer`. */
  readonly #events = new Set<string>()
  /** Requests whose replies are in `#packer`. */
  #answered: Outstanding[] = []
  /** Requests that caused the events in `#packer`. */
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

  /**
   * Queues a reply.
   * @param text ASCII
   */
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
   * Queues a watch event, or drops it if no message can hold it, as C xenstored does.
   * @param token with its NUL
   * @param cause the request that caused the event
   */
  event(path: string, token: Uint8Array, tokenKey: string, cause: Outstanding | undefined): void {
    const length = path.length + 1 + token.length
    if (length > XENSTORE_PAYLOAD_MAX) return
    // Special events are about one domain each, and are never merged.
    const key = path.startsWith('@') ? undefined : `${path}\0${tokenKey}`
    if (key !== undefined && this.#events.has(key)) return
    if (!this.#domain.hasMemory(xsdSockmsg.size + length)) return
    if (key !== undefined) this.#events.add(key)
    this.#append(XS.WATCH_EVENT, 0, 0, `${path}\0`, token)
    if (cause) this.#causes.push(cause.queued())
  }

  /** Stops deliveries, for a receiver that can't take them now; `resume` restarts them. */
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

  /** Delivers all queued messages. */
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

  /** Ends the connection after all queued messages are delivered. */
  end(reason: Error): void {
    this.#endReason = reason
  }

  /** Drops all queued messages, and ends a pause. */
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
