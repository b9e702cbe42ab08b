/** A client's request, and the handlers that answer requests. */
import type { Server } from './server.ts'
import type { Transaction } from './transaction.ts'
import type { Requester } from './tree-operations.ts'
import type { Watch } from './watches.ts'

/** The part of a connection that handlers use: its watches and transactions. */
export interface Session {
  /**
   * Sets a watch.
   * @param depth levels below the path to report; unlimited if undefined
   */
  watch(path: string, token: string, depth: number | undefined): Watch
  unwatch(path: string, token: string): void
  /**
   * Starts a transaction.
   * @returns its id, unique within this connection
   */
  beginTransaction(): number
  endTransaction(txId: number): void
  /** Drops all watches and transactions. */
  forget(): void
}

/** One request, as its handler sees it. */
export interface Request extends Requester {
  readonly connection: Session
  readonly xenstored: Server
  readonly txId: number
  readonly transaction: Transaction | undefined
  readonly payload: Uint8Array
  /** @param payload ASCII text, or bytes */
  reply(payload: string | Uint8Array): void
}

/** Handler of one type of request. */
export interface Handler {
  /** Whether only domain 0 may send the request. */
  readonly privileged?: true
  /** Whether the request ignores `tx_id`, because it isn't part of a transaction. */
  readonly global?: true
  run(request: Request): void
}

/** Pairs of a message type and its handler. */
export type Handlers = readonly (readonly [number, Handler])[]
