/** A domain as xenstored sees it: its rights, and its use of quotas. */
import { XENSTORE_SERVER_FEATURE } from '@xenkit/wire'
import { isPrivileged, type Subject } from './permissions.ts'
import type { Quota, QuotaName } from './quota.ts'

const { RECONNECTION, ERROR, WATCHDEPTH, DOMID_ANY } = XENSTORE_SERVER_FEATURE

/**
 * Features in GET_FEATURE's reply and in a ring's page. Socket clients see them too, as in C
 * xenstored.
 */
export const FEATURES = RECONNECTION | ERROR | WATCHDEPTH | DOMID_ANY

/** Milliseconds between two warnings about one domain. */
const WARN_MS = 10_000

interface Usage {
  nodes: number
  watches: number
  transactions: number
  outstanding: number
  memory: number
}

/** The part of a connection that its domain and the server use. */
export interface Client {
  /** Schedules work on the connection, because there may be something to do. */
  wake(): void
  /** Restarts the connection: drops its watches, transactions and all bytes in flight. */
  reset(): void
  /**
   * Ends the connection from xenstored's side. What was queued for the client is still delivered.
   */
  end(reason: Error): void
  /** Lists the connection, its watches and its transactions, one per line. */
  openResources(): string[]
}

/** A domain that xenstored knows. */
export class Domain implements Subject {
  readonly domid: number
  /**
   * Generation of the store when the domain became known. Older permissions that name its domid are
   * about an earlier domain.
   */
  readonly generation: number
  /** The domain's quota. */
  readonly quota: Quota
  readonly connections = new Set<Client>()
  isIntroduced = false
  features = FEATURES
  /** Domid whose rights this domain has in addition to its own; set by SET_TARGET. */
  target: number | undefined
  readonly #usage: Usage = { nodes: 0, watches: 0, transactions: 0, outstanding: 0, memory: 0 }
  readonly #log: (line: string) => void
  #warned = -Infinity

  constructor(
    domid: number,
    o: { readonly quota: Quota; readonly log: (line: string) => void; readonly generation: number },
  ) {
    this.domid = domid
    this.generation = o.generation
    this.quota = { ...o.quota }
    this.#log = o.log
  }

  get isPrivileged(): boolean {
    return isPrivileged(this.domid)
  }

  /** Returns the limit of the quota, or Infinity if there is none. */
  limit(name: QuotaName): number {
    return this.isPrivileged || this.quota[name] === 0 ? Infinity : this.quota[name]
  }

  used(what: keyof Usage): number {
    return this.#usage[what]
  }

  /**
   * Adds to what the domain uses of a quota.
   * @param more amount to add; negative to subtract
   */
  use(what: keyof Usage, more: number): void {
    const before = this.isHeldOff
    this.#usage[what] += more
    if (before && !this.isHeldOff) for (const connection of this.connections) connection.wake()
    if (what === 'memory' && more > 0 && this.#usage.memory >= this.limit('soft-memory')) {
      this.#warn()
    }
  }

  /** Whether the domain's next requests must wait. */
  get isHeldOff(): boolean {
    return this.#usage.outstanding >= this.limit('outstanding') || !this.hasMemory(0)
  }

  /** Whether the memory quota allows `more` bytes. */
  hasMemory(more: number): boolean {
    return this.#usage.memory + more < this.limit('memory')
  }

  #warn(): void {
    const now = performance.now()
    if (now - this.#warned < WARN_MS) return
    this.#warned = now
    this.#log(
      `domain ${this.domid} uses ${this.#usage.memory} bytes of memory: the soft limit is ${this.quota['soft-memory']}, the hard limit ${this.quota.memory}`,
    )
  }
}
