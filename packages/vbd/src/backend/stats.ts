/**
 * Statistics of a disk since it was first offered, kept over reconnects. Each thread that serves
 * its rings counts in memory of its own: see `Counters`.
 */
import { Counters } from '@xenkit/backend'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import type { DataPathKind } from './data-path.ts'
import type { Requests } from './requests.ts'

/** Statistics of a disk. Its members change as it is used; copy the object for a snapshot. */
export interface VbdStats {
  /**
   * Answered requests by kind, including failed ones. Operations that aren't offered count as
   * `errors` only.
   */
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  readonly barriers: number
  readonly discards: number
  /** Reads and writes that were indirect requests. */
  readonly indirect: number
  /** Requests answered with an error, including operations that aren't offered. */
  readonly errors: number
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Bytes that guests asked to discard: the store may have been asked for less. */
  readonly bytesDiscarded: number
  /** How data moves; undefined while the disk isn't connected. */
  readonly dataPath: DataPathKind | undefined
  /** Rings in use, 0 while the disk isn't connected. */
  readonly queues: number
  /** Pages of the guest that are mapped between requests. */
  readonly persistentGrants: number
}

/**
 * Index of each number in a thread's memory: requests by operation, then bytes by operation, then
 * others.
 */
const OPERATIONS = 1 + Math.max(...Object.values(BLKIF_OP))
const BYTES = OPERATIONS
const AT = {
  indirect: 2 * OPERATIONS,
  errors: 2 * OPERATIONS + 1,
  persistentGrants: 2 * OPERATIONS + 2,
} as const
const NUMBERS = 2 * OPERATIONS + 3

/** Counts the requests of one thread. */
export class VbdCounters {
  readonly #numbers: Float64Array

  /** @param numbers the array in which this thread counts, from `Counters` */
  constructor(numbers: Float64Array) {
    this.#numbers = numbers
  }

  /** Counts a completed request. */
  count(requests: Requests, row: number): void {
    const operation = requests.operation[row] ?? 0
    const done = requests.status[row] === BLKIF_RSP.OKAY
    if (!done) this.#add(AT.errors, 1)
    if (requests.indirect[row] === 1) this.#add(AT.indirect, 1)
    if (operation >= OPERATIONS) return
    this.#add(operation, 1)
    if (done) this.#add(BYTES + operation, requests.bytes[row] ?? 0)
  }

  /** Adds to the number of mapped persistent grants. @param change negative for unmapped ones */
  countPersistent(change: number): void {
    this.#add(AT.persistentGrants, change)
  }

  #add(at: number, change: number): void {
    this.#numbers[at] = (this.#numbers[at] ?? 0) + change
  }
}

/** A disk's statistics: the sums over all threads that serve it. */
export class DiskCounters {
  readonly #counters = new Counters(NUMBERS)
  /** The server's own thread counts here. */
  readonly own = new VbdCounters(this.#counters.own)
  #connected: Pick<VbdStats, 'dataPath' | 'queues'> = { dataPath: undefined, queues: 0 }
  /** Own, enumerable getters, so that the object can be copied and printed. */
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

  /** Shared memory for another thread's `VbdCounters`. */
  of(thread: object): Float64Array {
    return this.#counters.of(thread)
  }

  connected(o: { readonly dataPath: DataPathKind; readonly queues: number }): void {
    this.#connected = o
  }

  /** Called once no thread counts for the disk. */
  disconnected(): void {
    this.#connected = { dataPath: undefined, queues: 0 }
    this.#counters.clear(AT.persistentGrants)
  }
}

/** Makes an object with a getter for each function. */
function getters<T extends object>(functions: { readonly [Name in keyof T]: () => T[Name] }): T {
  const made = {}
  for (const [name, get] of Object.entries(functions)) {
    Object.defineProperty(made, name, { get: get as () => unknown, enumerable: true })
  }
  return made as T // one getter for each of its members, as the loop above goes
}
