/**
 * One client. Requests are carried out while they arrive; replies and events are packed and delivered
 * in a turn of the event loop of their own, never from within the client's `write`.
 *
 * Memory is bounded: input is never queued, an event that is already waiting isn't queued again, and a
 * client whose output grows beyond `OUTPUT_MAX` because it doesn't take it loses its connection.
 */
import type { ByteStream, ByteStreamReceiver } from '@xenkit/hypervisor'
import { XENSTORE_PAYLOAD_MAX, XS, XsFormatError, XsPacker, XsParser } from '@xenkit/wire'
import type { Xenstored } from './index.ts'
import { latin1Bytes } from './latin1.ts'
import { homeOf, resolvePath } from './path.ts'
import { isPrivileged } from './permissions.ts'
import { QUOTA } from './quota.ts'
import { Refusal } from './refusal.ts'
import { handlers } from './requests.ts'
import { Transaction } from './transaction.ts'
import type { Watch } from './watches.ts'

/** Bytes that wait for a client: 4000 replies of the largest size. */
const OUTPUT_MAX = 16 * 1024 * 1024

export class Connection implements ByteStream {
  readonly domid: number
  readonly #xenstored: Xenstored
  readonly #receiver: ByteStreamReceiver
  readonly #parser = new XsParser((type, reqId, txId, payload) => this.#handle(type, reqId, txId, payload))
  readonly #watches = new Map<string, Watch>()
  readonly #transactions = new Map<number, Transaction>()
  #lastTxId = 0
  #out = new XsPacker()
  /** The receiver may send requests while it is given `#out`: their replies go here. */
  #spare = new XsPacker()
  /** Events within `#out`. */
  readonly #waiting = new Set<string>()
  #flushing = false
  #paused = false
  #open = true
  #endReason: Error | undefined

  constructor(xenstored: Xenstored, domid: number, receiver: ByteStreamReceiver) {
    this.#xenstored = xenstored
    this.domid = domid
    this.#receiver = receiver
  }

  write(bytes: Uint8Array): void {
    if (!this.#open) return
    try {
      this.#parser.push(bytes)
    } catch (error) {
      if (!(error instanceof XsFormatError)) throw error
      this.end(error)
    }
  }

  close(): void {
    this.#endReason = undefined
    this.#out.take()
    this.#shut()
  }

  /** Holds back deliveries, for a receiver that can't take them now; `resume` lets them go on. */
  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#scheduleFlush()
  }

  /** Ends the connection from this side, after what it was already sent. */
  end(reason: Error): void {
    if (!this.#open) return
    this.#shut()
    this.#endReason = reason
    this.#scheduleFlush()
  }

  watch(text: string, token: string, depth: number | undefined): Watch {
    const path = resolvePath(text, this.domid, 'special')
    const key = watchKey(path, token)
    if (this.#watches.has(key)) throw new Refusal('EEXIST')
    if (!isPrivileged(this.domid) && this.#watches.size >= QUOTA.watches) throw new Refusal('E2BIG') // ENOSPC since Xen 4.21
    const relative = !/^[/@]/.test(text)
    const tokenBytes = latin1Bytes(`${token}\0`)
    const watch: Watch = { path, token, depth, prefix: relative ? homeOf(this.domid).length + 1 : 0, domid: this.domid, notify: (changed) => this.#sendEvent(changed, token, tokenBytes) }
    this.#watches.set(key, watch)
    this.#xenstored.watches.add(watch)
    return watch
  }

  unwatch(text: string, token: string): void {
    const key = watchKey(resolvePath(text, this.domid, 'special'), token)
    const watch = this.#watches.get(key)
    if (!watch) throw new Refusal('ENOENT')
    this.#watches.delete(key)
    this.#xenstored.watches.remove(watch)
  }

  /** @returns its id, which is this connection's own. */
  beginTransaction(): number {
    if (!isPrivileged(this.domid) && this.#transactions.size >= QUOTA.transactions) throw new Refusal('ENOSPC')
    do this.#lastTxId = (this.#lastTxId + 1) >>> 0
    while (this.#lastTxId === 0 || this.#transactions.has(this.#lastTxId))
    this.#transactions.set(this.#lastTxId, new Transaction(this.#xenstored.store, this.domid))
    return this.#lastTxId
  }

  endTransaction(txId: number): void {
    this.#transactions.delete(txId)
  }

  /** Forgets watches and transactions, as when the domain's connection is set up anew. */
  reset(): void {
    for (const watch of this.#watches.values()) this.#xenstored.watches.remove(watch)
    this.#watches.clear()
    this.#transactions.clear()
  }

  /** What the client has open, one line each. */
  openResources(): string[] {
    const name = `xenstore connection of domain ${this.domid}`
    return [
      name,
      ...[...this.#watches.values()].map(({ path, token }) => `${name}: watch "${path}" with token "${token}"`),
      ...[...this.#transactions.keys()].map((txId) => `${name}: transaction ${txId}`),
    ]
  }

  #handle(type: number, reqId: number, txId: number, payload: Uint8Array): void {
    if (!this.#open) return
    const reply = (text: string | Uint8Array): void => this.#sendReply(type, reqId, txId, typeof text === 'string' ? latin1Bytes(text) : text)
    try {
      const handler = handlers.get(type)
      if (!handler) throw new Refusal('ENOSYS')
      if (handler.privileged && !isPrivileged(this.domid)) throw new Refusal('EACCES')
      const transaction = handler.global || txId === 0 ? undefined : this.#transactions.get(txId)
      if (!handler.global && txId !== 0 && !transaction) throw new Refusal('ENOENT')
      const xenstored = this.#xenstored
      handler.run({
        connection: this, xenstored, domid: this.domid, txId, transaction, payload, reply,
        tree: transaction ?? xenstored.store,
        changed: (change) => (transaction ? transaction.noteChange(change) : xenstored.watches.fire(change, xenstored.store)),
      })
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.#sendReply(XS.ERROR, reqId, txId, latin1Bytes(`${error.errno}\0`))
    }
  }

  #sendReply(type: number, reqId: number, txId: number, payload: Uint8Array): void {
    if (payload.length > XENSTORE_PAYLOAD_MAX) throw new Refusal('E2BIG')
    this.#out.append(type, reqId, txId, '', payload)
    this.#sent()
  }

  /** Events that no message can hold are dropped, as xenstored does. */
  #sendEvent(path: string, token: string, tokenBytes: Uint8Array): void {
    const key = watchKey(path, token)
    // A special event stands for one domain each time: those are never merged.
    const merges = !path.startsWith('@')
    if (path.length + 1 + tokenBytes.length > XENSTORE_PAYLOAD_MAX || (merges && this.#waiting.has(key))) return
    if (merges) this.#waiting.add(key)
    this.#out.append(XS.WATCH_EVENT, 0, 0, `${path}\0`, tokenBytes)
    this.#sent()
  }

  #sent(): void {
    if (this.#out.length <= OUTPUT_MAX) {
      this.#scheduleFlush()
      return
    }
    const unread = this.#out.take().length
    this.#paused = false // there is nothing left to hold back
    this.end(new Error(`the xenstore client of domain ${this.domid} left ${unread} bytes of replies and events unread`))
  }

  #scheduleFlush(): void {
    if (this.#flushing || this.#paused) return
    this.#flushing = true
    // A macrotask: a client that only ever waits for replies must not starve timers and I/O.
    setImmediate(() => {
      this.#flushing = false
      if (!this.#paused) this.#flush()
    })
  }

  #flush(): void {
    const out = this.#out
    this.#out = this.#spare
    this.#spare = out
    this.#waiting.clear()
    if (out.length > 0) this.#receiver.data(out.take())
    const reason = this.#endReason
    this.#endReason = undefined
    if (reason) this.#receiver.closed(reason)
  }

  #shut(): void {
    if (!this.#open) return
    this.#open = false
    this.reset()
    this.#xenstored.disconnected(this)
  }
}

/** NUL can't be part of either. */
const watchKey = (path: string, token: string): string => `${path}\0${token}`
