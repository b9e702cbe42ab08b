/**
 * What one disk has done since it was first offered. Kept over reconnects; reading it costs
 * nothing. Each thread that serves rings of the disk counts in memory of its own, which the
 * server's thread adds up. A number there is stored and loaded whole: x86_64 and arm64 do so with 8
 * aligned bytes.
 */
import { Counters } from '@xenkit/backend'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import type { DataPathKind } from './data-path.ts'
import type { Requests } from './requests.ts'

/** Counters of a disk, which go on across reconnects, and its data path and rings. */
export interface VbdStats {
  /**
   * Answered requests by kind, failed ones among them; those that aren't offered are errors only.
   */
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  readonly barriers: number
  readonly discards: number
  /** Those of the reads and writes whose segments came in pages of their own. */
  readonly indirect: number
  /** Requests answered with an error, those for operations that aren't offered included. */
  readonly errors: number
  readonly bytesRead: number
  readonly bytesWritten: number
  /** As the guest asked for it: the store may have been given less. */
  readonly bytesDiscarded: number
  /** How data is moved; undefined while the disk isn't connected. */
  readonly dataPath: DataPathKind | undefined
  /** Rings in use, 0 while the disk isn't connected. */
  readonly queues: number
  /** Pages of the guest's that stay mapped between requests. */
  readonly persistentGrants: number
}

/**
 * Where each number lies in the memory of a thread: requests by operation, their bytes by
 * operation, and others.
 */
const OPERATIONS = 1 + Math.max(...Object.values(BLKIF_OP))
const BYTES = OPERATIONS
const AT = {
  indirect: 2 * OPERATIONS,
  errors: 2 * OPERATIONS + 1,
  persistentGrants: 2 * OPERATIONS + 2,
} as const
const NUMBERS = 2 * OPERATIONS + 3

/** What one thread counts. */
export class VbdCounters {
  readonly #numbers: Float64Array

  /** @param numbers of this thread: see `Counters` */
  constructor(numbers: Float64Array) {
    this.#numbers = numbers
  }

  /** Counts a request whose status is known. */
  count(requests: Requests, row: number): void {
    const operation = requests.operation[row] ?? 0
    const done = requests.status[row] === BLKIF_RSP.OKAY
    if (!done) this.#add(AT.errors, 1)
    if (requests.indirect[row] === 1) this.#add(AT.indirect, 1)
    if (operation >= OPERATIONS) return
    this.#add(operation, 1)
    if (done) this.#add(BYTES + operation, requests.bytes[row] ?? 0)
  }

  /** Counts pages that are mapped from now on, or with a negative number no more. */
  countPersistent(change: number): void {
    this.#add(AT.persistentGrants, change)
  }

  #add(at: number, change: number): void {
    this.#numbers[at] = (this.#numbers[at] ?? 0) + change
  }
}

/** Counts of a disk, of all threads that serve it. */
export class DiskCounters {
  readonly #counters = new Counters(NUMBERS)
  /** The server's own thread counts here. */
  readonly own = new VbdCounters(this.#counters.own)
  #connected: Pick<VbdStats, 'dataPath' | 'queues'> = { dataPath: undefined, queues: 0 }
  /** Its members are getters of its own, so that it can be copied and printed. */
  readonly stats: VbdStats

  constructor() {
    const sum = (at: number): number => this.#counters.sum(at)
    const bytes = (operation: number): number => sum(BYTES + operation)
    const { READ, WRITE, WRITE_BARRIER, FLUSH_DISKCACHE, DISCARD } = BLKIF_OP
    const numbers: { readonly [Name in keyof VbdStats]: () => VbdStats[Name] } = {
      reads: () => sum(READ),
      writes: () => sum(WRITE),
      flushes: () => sum(FLUSH_DISKCACHE),
      barriers: () => sum(WRITE_BARRIER),
      discards: () => sum(DISCARD),
      indirect: () => sum(AT.indirect),
      errors: () => sum(AT.errors),
      bytesRead: () => bytes(READ),
      bytesWritten: () => bytes(WRITE) + bytes(WRITE_BARRIER) + bytes(FLUSH_DISKCACHE),
      bytesDiscarded: () => bytes(DISCARD),
      dataPath: () => this.#connected.dataPath,
      queues: () => this.#connected.queues,
      persistentGrants: () => sum(AT.persistentGrants),
    }
    this.stats = getters(numbers)
  }

  /** Memory for another thread's `VbdCounters`. */
  of(thread: object): Float64Array {
    return this.#counters.of(thread)
  }

  connected(o: { readonly dataPath: DataPathKind; readonly queues: number }): void {
    this.#connected = o
  }

  /** Nothing is counted any more. */
  disconnected(): void {
    this.#connected = { dataPath: undefined, queues: 0 }
    this.#counters.clear(AT.persistentGrants)
  }
}

/** An object with a getter for each function. */
function getters<T extends object>(functions: { readonly [Name in keyof T]: () => T[Name] }): T {
  const made = {}
  for (const [name, get] of Object.entries(functions)) {
    Object.defineProperty(made, name, { get: get as () => unknown, enumerable: true })
  }
  return made as T // one getter for each of its members, as the loop above goes
}
