/** A client's request, and the handlers that answer requests. */
import type { Server } from './server.ts'
import type { Transaction } from './transaction.ts'
import type { Requester } from './tree-operations.ts'
import type { Watch } from './watches.ts'

/** The part of a connection that requests use: its watches and transactions. */
export interface Session {
  /** @param depth how many levels below the path are watched; unlimited if undefined */
  watch(path: string, token: string, depth: number | undefined): Watch
  unwatch(path: string, token: string): void
  /** @returns the transaction's id, unique within this connection */
  beginTransaction(): number
  endTransaction(txId: number): void
  /** Drops all watches and transactions. */
  forget(): void
}

export interface Request extends Requester {
  readonly connection: Session
  readonly xenstored: Server
  readonly txId: number
  readonly transaction: Transaction | undefined
  readonly payload: Uint8Array
  /** @param payload text in ASCII, or bytes */
  reply(payload: string | Uint8Array): void
}

export interface Handler {
  /** Only domain 0 may ask. */
  readonly privileged?: true
  /** Takes no part in a transaction: `tx_id` is ignored. */
  readonly global?: true
  run(request: Request): void
}

/** Handlers with the message types that they answer. */
export type Handlers = readonly (readonly [number, Handler])[]
