/** One client: its watches and transactions, and what it asks for. */
import type { ByteStream, ByteStreamReceiver } from '@xenkit/hypervisor'
import { XENSTORE_PAYLOAD_MAX, XS, XsFormatError, XsParser } from '@xenkit/wire'
import type { Xenstored } from './index.ts'
import { Inbox } from './inbox.ts'
import { latin1Bytes } from './latin1.ts'
import { Outbox } from './outbox.ts'
import { homeOf, resolvePath } from './path.ts'
import { isPrivileged } from './permissions.ts'
import { QUOTA } from './quota.ts'
import { Refusal } from './refusal.ts'
import { handlers } from './requests.ts'
import { Transaction } from './transaction.ts'
import type { Watch } from './watches.ts'

export class Connection implements ByteStream {
  readonly domid: number
  readonly #xenstored: Xenstored
  readonly #parser = new XsParser((type, reqId, txId, payload) => this.#handle(type, reqId, txId, payload))
  readonly #inbox: Inbox
  readonly #outbox: Outbox
  readonly #watches = new Map<string, Watch>()
  readonly #transactions = new Map<number, Transaction>()
  #lastTxId = 0
  #open = true

  constructor(xenstored: Xenstored, domid: number, receiver: ByteStreamReceiver) {
    this.#xenstored = xenstored
    this.domid = domid
    this.#outbox = new Outbox(receiver, {
      onDelivered: () => this.#inbox.proceed(),
      onOverflow: (bytes) => this.end(new Error(`the xenstore client of domain ${domid} left ${bytes} bytes of replies and events unread`)),
    })
    this.#inbox = new Inbox((bytes) => this.#parse(bytes), () => this.#outbox.isFull)
  }

  write(bytes: Uint8Array): void {
    if (!this.#open || this.#inbox.add(bytes)) return
    this.end(new Error(`the xenstore client of domain ${this.domid} sends more than it lets xenstored answer`))
  }

  close(): void {
    this.#outbox.drop()
    this.#shut()
  }

  /** Holds back deliveries, for a receiver that can't take them now; `resume` lets them go on. */
  pause(): void {
    this.#outbox.pause()
  }

  resume(): void {
    this.#outbox.resume()
  }

  /** Ends the connection from this side, after what it was already sent. */
  end(reason: Error): void {
    if (this.#shut()) this.#outbox.end(reason)
  }

  watch(text: string, token: string, depth: number | undefined): Watch {
    const path = resolvePath(text, this.domid, 'special')
    const key = watchKey(path, token)
    if (this.#watches.has(key)) throw new Refusal('EEXIST')
    if (!isPrivileged(this.domid) && this.#watches.size >= QUOTA.watches) throw new Refusal('E2BIG') // as 4.17; later releases say ENOSPC
    const isRelative = !text.startsWith('/') && !text.startsWith('@')
    const tokenBytes = latin1Bytes(`${token}\0`)
    const watch: Watch = {
      path, token, depth, domid: this.domid,
      prefix: isRelative ? homeOf(this.domid).length + 1 : 0,
      notify: (changed) => this.#outbox.event(changed, tokenBytes, token),
    }
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

  #parse(bytes: Uint8Array): void {
    if (!this.#open) return
    try {
      this.#parser.push(bytes)
    } catch (error) {
      if (!(error instanceof XsFormatError)) throw error
      this.end(error)
    }
  }

  #handle(type: number, reqId: number, txId: number, payload: Uint8Array): void {
    if (!this.#open) return
    const { domid } = this
    const xenstored = this.#xenstored
    const reply = (answer: string | Uint8Array): void => {
      const bytes = typeof answer === 'string' ? latin1Bytes(answer) : answer
      if (bytes.length > XENSTORE_PAYLOAD_MAX) throw new Refusal('E2BIG')
      this.#outbox.reply(type, reqId, txId, bytes)
    }
    try {
      const handler = handlers.get(type)
      if (!handler) throw new Refusal('ENOSYS')
      if (handler.privileged && !isPrivileged(domid)) throw new Refusal('EACCES')
      const inTransaction = txId !== 0 && !handler.global
      const transaction = inTransaction ? this.#transactions.get(txId) : undefined
      if (inTransaction && !transaction) throw new Refusal('ENOENT')
      handler.run({
        connection: this, xenstored, domid, txId, transaction, payload, reply,
        tree: transaction ?? xenstored.store,
        changed: (change) => (transaction ? transaction.noteChange(change) : xenstored.watches.fire(change, xenstored.store)),
      })
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.#outbox.reply(XS.ERROR, reqId, txId, latin1Bytes(`${error.errno}\0`))
    }
  }

  /** @returns whether it was open. */
  #shut(): boolean {
    if (!this.#open) return false
    this.#open = false
    this.reset()
    this.#xenstored.disconnected(this)
    return true
  }
}

/** NUL can't be part of either. */
const watchKey = (path: string, token: string): string => `${path}\0${token}`
