/** One client's connection: its watches, transactions and requests. */
import type { ByteStream, ByteStreamReceiver } from '@xenkit/hypervisor'
import { XENSTORE_PAYLOAD_MAX, XS, XsFormatError, xsTypeName } from '@xenkit/wire'
import type { Client, Domain } from './domain.ts'
import { handlers } from './handlers.ts'
import { Inbox } from './inbox.ts'
import { latin1, latin1Bytes } from './latin1.ts'
import { Outbox } from './outbox.ts'
import { Outstanding } from './outstanding.ts'
import { absolutePath, homeOf, isSpecial, resolveWatchPath } from './path.ts'
import { Refusal } from './refusal.ts'
import type { Session } from './request.ts'
import type { Server } from './server.ts'
import { Transaction } from './transaction.ts'
import type { Watch } from './watches.ts'

/** The client's side of a connection. */
export interface XenstoreReceiver extends ByteStreamReceiver {
  /** Called after a `write` that returned false, when there is room again. */
  ready?(): void
}

/**
 * Longest reply that doesn't count against the memory quota before it is queued. C xenstored has
 * room for that many bytes in every request.
 */
const SMALL_REPLY = 16

/** A connection with the rights of one domain. */
export class Connection implements ByteStream, Client, Session {
  readonly domain: Domain
  readonly #xenstored: Server
  readonly #receiver: XenstoreReceiver
  readonly #inbox = new Inbox((type, reqId, txId, payload) =>
    this.#handle(type, reqId, txId, payload),
  )
  readonly #outbox: Outbox
  readonly #watches = new Map<string, Watch>()
  readonly #transactions = new Map<number, Transaction>()
  #lastTxId = 0
  #isOpen = true
  /** Whether the last `write` returned false. */
  #isWaiting = false
  /** Whether the client has called `finish`: it will send no more. */
  #isFinished = false

  constructor(xenstored: Server, domain: Domain, receiver: XenstoreReceiver) {
    this.#xenstored = xenstored
    this.domain = domain
    this.#receiver = receiver
    this.#outbox = new Outbox(receiver, domain)
    domain.connections.add(this)
  }

  /**
   * Receives bytes from the client.
   * @returns false if the client should wait for `ready`; a client that keeps sending is
   *   disconnected when 16 MiB wait
   */
  write(bytes: Uint8Array): boolean {
    if (!this.#isOpen) return true
    this.#inbox.add(bytes)
    if (this.#inbox.isOverflowing) {
      this.#expel(
        new Error(
          `the xenstore client of domain ${this.domain.domid} sends requests without taking the replies`,
        ),
      )
      return true
    }
    this.wake()
    this.#isWaiting = this.#inbox.isFull
    return !this.#isWaiting
  }

  /** Tells that the client has sent everything. Its requests are still answered. */
  finish(): void {
    this.#isFinished = true
    this.wake()
  }

  close(): void {
    this.#outbox.drop()
    this.#shut()
  }

  /** Stops deliveries, for a receiver that can't take them now; `resume` restarts them. */
  pause(): void {
    this.#outbox.pause()
  }

  resume(): void {
    this.#outbox.resume()
    this.wake()
  }

  end(reason: Error): void {
    if (!this.#shut()) return
    this.#outbox.end(reason)
    this.wake()
  }

  wake(): void {
    this.#xenstored.turns.wake(this)
  }

  /**
   * Answers requests and delivers messages until the time `until`, in ms of performance.now().
   * @returns whether there is more to do
   */
  work(until: number): boolean {
    this.#takeRequests(until)
    this.#outbox.flush()
    if (this.#isFinished && this.#inbox.isEmpty) {
      this.end(new Error(`the xenstore client of domain ${this.domain.domid} has finished`))
    }
    if (this.#isWaiting && !this.#inbox.isFull) {
      this.#isWaiting = false
      this.#receiver.ready?.()
    }
    return this.#canTake
  }

  watch(text: string, token: string, depth: number | undefined): Watch {
    const { domain } = this
    const path = resolveWatchPath(text, domain)
    const key = watchKey(path, token)
    if (this.#watches.has(key)) throw new Refusal('EEXIST')
    // As in 4.17, one watch more than the quota is allowed, and the error is E2BIG. Later releases
    // refuse that one too, with ENOSPC.
    if (domain.used('watches') > domain.limit('watches')) throw new Refusal('E2BIG')
    const memory = path.length + token.length
    if (!domain.hasMemory(memory)) throw new Refusal('ENOMEM')
    const isRelative = !text.startsWith('/') && !isSpecial(text)
    const tokenBytes = latin1Bytes(`${token}\0`)
    const watch: Watch = {
      path,
      token,
      depth,
      subject: domain,
      prefix: isRelative ? homeOf(domain.domid).length + 1 : 0,
      notify: (changed) => {
        this.#outbox.event(changed, tokenBytes, token, this.#xenstored.cause)
        this.#lookAfterOutbox()
      },
    }
    domain.use('watches', 1)
    domain.use('memory', memory)
    this.#watches.set(key, watch)
    this.#xenstored.watches.add(watch)
    return watch
  }

  unwatch(text: string, token: string): void {
    const key = watchKey(absolutePath(text, this.domain), token)
    const watch = this.#watches.get(key)
    if (!watch) throw new Refusal('ENOENT')
    this.#watches.delete(key)
    this.#forgetWatch(watch)
  }

  beginTransaction(): number {
    const { domain } = this
    // As in 4.17, one transaction more than the quota is allowed.
    if (domain.used('transactions') > domain.limit('transactions')) throw new Refusal('ENOSPC')
    do this.#lastTxId = (this.#lastTxId + 1) >>> 0
    while (this.#lastTxId === 0 || this.#transactions.has(this.#lastTxId))
    this.#transactions.set(this.#lastTxId, new Transaction(this.#xenstored.store, domain))
    domain.use('transactions', 1)
    return this.#lastTxId
  }

  endTransaction(txId: number): void {
    this.#transactions.get(txId)?.close()
    this.#transactions.delete(txId)
    this.domain.use('transactions', -1)
  }

  forget(): void {
    for (const watch of this.#watches.values()) this.#forgetWatch(watch)
    this.#watches.clear()
    for (const txId of this.#transactions.keys()) this.endTransaction(txId)
  }

  reset(): void {
    this.forget()
    this.#inbox.clear()
    this.#outbox.drop()
  }

  openResources(): string[] {
    const name = `xenstore connection of domain ${this.domain.domid}`
    return [
      name,
      ...[...this.#watches.values()].map(
        ({ path, token }) => `${name}: watch "${path}" with token "${token}"`,
      ),
      ...[...this.#transactions.keys()].map((txId) => `${name}: transaction ${txId}`),
    ]
  }

  get #canTake(): boolean {
    if (this.domain.isHeldOff || this.#xenstored.writeRate.isExceededBy(this.domain)) return false
    return this.#isOpen && !this.#inbox.isEmpty && !this.#outbox.isFull
  }

  #takeRequests(until: number): void {
    try {
      while (this.#canTake) {
        this.#inbox.take()
        if (performance.now() >= until) return
      }
    } catch (error) {
      if (!(error instanceof XsFormatError)) throw error
      this.#expel(error)
    }
  }

  #handle(type: number, reqId: number, txId: number, payload: Uint8Array): void {
    const { domain } = this
    const xenstored = this.#xenstored
    const outstanding = domain.isPrivileged ? undefined : new Outstanding(domain)
    const reply = (answer: string | Uint8Array): void => {
      if (answer.length > XENSTORE_PAYLOAD_MAX) throw new Refusal('E2BIG')
      if (answer.length > SMALL_REPLY && !domain.hasMemory(answer.length)) {
        throw new Refusal('ENOMEM')
      }
      if (typeof answer === 'string') {
        this.#outbox.reply(type, reqId, txId, answer, undefined, outstanding)
      } else this.#outbox.reply(type, reqId, txId, '', answer, outstanding)
    }
    if (xenstored.isTracing) {
      xenstored.log(
        `domain ${domain.domid}: ${xsTypeName(type)} ${JSON.stringify(latin1(payload))}`,
      )
    }
    xenstored.cause = outstanding
    try {
      const handler = handlers.get(type)
      if (!handler) throw new Refusal('ENOSYS')
      if (handler.privileged && !domain.isPrivileged) throw new Refusal('EACCES')
      const inTransaction = txId !== 0 && !handler.global
      const transaction = inTransaction ? this.#transactions.get(txId) : undefined
      if (inTransaction && !transaction) throw new Refusal('ENOENT')
      handler.run({
        connection: this,
        xenstored,
        domain,
        txId,
        transaction,
        payload,
        reply,
        tree: transaction ?? xenstored.store,
        changed: (change) =>
          transaction
            ? transaction.noteChange(change)
            : xenstored.watches.fire(change, xenstored.store),
      })
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.#outbox.reply(XS.ERROR, reqId, txId, `${error.errno}\0`, undefined, outstanding)
    } finally {
      xenstored.cause = undefined
    }
  }

  #lookAfterOutbox(): void {
    if (this.#outbox.isOverflowing) {
      const { length } = this.#outbox
      this.#outbox.drop()
      this.#expel(
        new Error(
          `the xenstore client of domain ${this.domain.domid} left ${length} bytes of replies and events unread`,
        ),
      )
    }
    this.wake()
  }

  /** Ends the connection of a client that exceeds a limit. */
  #expel(reason: Error): void {
    this.#xenstored.log(`connection of domain ${this.domain.domid} ended: ${reason.message}`)
    this.end(reason)
  }

  #forgetWatch(watch: Watch): void {
    this.#xenstored.watches.remove(watch)
    this.domain.use('watches', -1)
    this.domain.use('memory', -watch.path.length - watch.token.length)
  }

  /**
   * Ends the connection.
   * @returns whether it was open
   */
  #shut(): boolean {
    if (!this.#isOpen) return false
    this.#isOpen = false
    this.#inbox.clear()
    this.forget()
    this.domain.connections.delete(this)
    return true
  }
}

/** Key of a watch: its path and token. A path can't contain NUL, so keys are unambiguous. */
const watchKey = (path: string, token: string): string => `${path}\0${token}`
