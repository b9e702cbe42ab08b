/**
 * What one disk has done since it was first offered. Kept over reconnects; reading it costs
 * nothing. Each thread that serves rings of the disk counts in memory of its own, which the
 * server's thread adds up. A number there is stored and loaded whole: x86_64 and arm64 do so with 8
 * aligned bytes.
 */
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import type { DataPathKind } from './data-path.ts'
import type { Requests } from './requests.ts'

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
  /** Goes to another thread if its memory is shared. */
  readonly numbers: Float64Array

  constructor(numbers: Float64Array = new Float64Array(NUMBERS)) {
    this.numbers = numbers
  }

  static shared(): VbdCounters {
    return new VbdCounters(
      new Float64Array(new SharedArrayBuffer(NUMBERS * Float64Array.BYTES_PER_ELEMENT)),
    )
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
    this.numbers[at] = (this.numbers[at] ?? 0) + change
  }
}

/** What all threads of a disk count. */
export class DiskCounters {
  /** Of the server's own thread. */
  readonly own = new VbdCounters()
  readonly stats: VbdStats
  readonly #ofThreads = new Map<object, VbdCounters>()
  #dataPath: DataPathKind | undefined
  #queues = 0

  constructor() {
    const [sum, dataPath, queues] = [
      (at: number) => this.#sum(at),
      () => this.#dataPath,
      () => this.#queues,
    ]
    this.stats = {
      get reads() {
        return sum(BLKIF_OP.READ)
      },
      get writes() {
        return sum(BLKIF_OP.WRITE)
      },
      get flushes() {
        return sum(BLKIF_OP.FLUSH_DISKCACHE)
      },
      get barriers() {
        return sum(BLKIF_OP.WRITE_BARRIER)
      },
      get discards() {
        return sum(BLKIF_OP.DISCARD)
      },
      get indirect() {
        return sum(AT.indirect)
      },
      get errors() {
        return sum(AT.errors)
      },
      get bytesRead() {
        return sum(BYTES + BLKIF_OP.READ)
      },
      get bytesWritten() {
        return (
          sum(BYTES + BLKIF_OP.WRITE) +
          sum(BYTES + BLKIF_OP.WRITE_BARRIER) +
          sum(BYTES + BLKIF_OP.FLUSH_DISKCACHE)
        )
      },
      get bytesDiscarded() {
        return sum(BYTES + BLKIF_OP.DISCARD)
      },
      get dataPath() {
        return dataPath()
      },
      get queues() {
        return queues()
      },
      get persistentGrants() {
        return sum(AT.persistentGrants)
      },
    }
  }

  /** Those of another thread. */
  of(thread: object): VbdCounters {
    const counters = this.#ofThreads.get(thread) ?? VbdCounters.shared()
    this.#ofThreads.set(thread, counters)
    return counters
  }

  connected(o: { readonly dataPath: DataPathKind; readonly queues: number }): void {
    this.#dataPath = o.dataPath
    this.#queues = o.queues
  }

  /** Nothing is counted any more. */
  disconnected(): void {
    this.#dataPath = undefined
    this.#queues = 0
    // A thread that died has not counted what it lost.
    for (const { numbers } of this.#ofThreads.values()) numbers[AT.persistentGrants] = 0
  }

  #sum(at: number): number {
    return [this.own, ...this.#ofThreads.values()].reduce(
      (sum, { numbers }) => sum + (numbers[at] ?? 0),
      0,
    )
  }
}
