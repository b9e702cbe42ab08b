/**
 * What waits to be delivered to one client: replies and events, in order. They are delivered in a turn
 * of the event loop of their own, never from within the client's `write`.
 *
 * It is bounded: when it is full no more requests are taken, an event that is waiting already isn't
 * queued again, and a client that has too many different ones waiting loses the connection.
 */
import type { ByteStreamReceiver } from '@xenkit/hypervisor'
import { XENSTORE_PAYLOAD_MAX, XS, XsPacker } from '@xenkit/wire'

/** Bytes that wait before the client's next requests have to. */
const FULL = 256 * 1024
/** Bytes that may wait at all: some hundred thousand events. */
const BYTES_MAX = 16 * 1024 * 1024

interface OutboxEvents {
  /** It isn't full any more. */
  onDelivered(): void
  /** This much was thrown away, because the client left it. */
  onOverflow(bytes: number): void
}

export class Outbox {
  readonly #receiver: ByteStreamReceiver
  readonly #o: OutboxEvents
  #packer = new XsPacker()
  /** The receiver may send requests while it is given what was packed: their replies go here. */
  #spare = new XsPacker()
  /** Events within `#packer`. */
  readonly #events = new Set<string>()
  #flushing = false
  #paused = false
  #endReason: Error | undefined

  constructor(receiver: ByteStreamReceiver, o: OutboxEvents) {
    this.#receiver = receiver
    this.#o = o
  }

  get isFull(): boolean {
    return this.#packer.length >= FULL
  }

  reply(type: number, reqId: number, txId: number, payload: Uint8Array): void {
    this.#packer.append(type, reqId, txId, '', payload)
    this.#schedule()
  }

  /** @param token with its NUL. Events that no message can hold are dropped, as xenstored does. */
  event(path: string, token: Uint8Array, tokenKey: string): void {
    if (path.length + 1 + token.length > XENSTORE_PAYLOAD_MAX) return
    // A special event stands for one domain each time: those are never merged.
    const key = path.startsWith('@') ? undefined : `${path}\0${tokenKey}`
    if (key !== undefined) {
      if (this.#events.has(key)) return
      this.#events.add(key)
    }
    this.#packer.append(XS.WATCH_EVENT, 0, 0, `${path}\0`, token)
    this.#schedule()
  }

  /** Holds back deliveries, for a receiver that can't take them now; `resume` lets them go on. */
  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#schedule()
  }

  /** Tells the receiver, after all that it was already sent, that this was all. */
  end(reason: Error): void {
    this.#endReason = reason
    this.#schedule()
  }

  /** Delivers nothing more. */
  drop(): void {
    this.#packer.take()
    this.#events.clear()
    this.#endReason = undefined
  }

  #schedule(): void {
    if (this.#packer.length > BYTES_MAX) {
      const { length } = this.#packer
      this.drop()
      this.#paused = false // there is nothing left to hold back but the end
      this.#o.onOverflow(length)
    }
    if (this.#flushing) return
    this.#flushing = true
    // A macrotask: a client that only ever waits for replies must not starve timers and I/O.
    setImmediate(() => {
      this.#flushing = false
      if (!this.#paused) this.#flush()
    })
  }

  #flush(): void {
    const packed = this.#packer
    this.#packer = this.#spare
    this.#spare = packed
    this.#events.clear()
    if (packed.length > 0) this.#receiver.data(packed.take())
    this.#o.onDelivered()
    const reason = this.#endReason
    this.#endReason = undefined
    if (reason) this.#receiver.closed(reason)
  }
}
