/**
 * What one disk has done since it was first offered. Kept over reconnects; reading it costs nothing. Each
 * thread that serves rings of the disk counts in memory of its own, which the server's thread adds up. A
 * number there is stored and loaded whole: x86_64 and arm64 do so with 8 aligned bytes.
 */
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import type { DataPathKind } from './data-path.ts'
import type { Requests } from './requests.ts'

export interface VbdStats {
  /** Answered requests by kind, failed ones among them; those that aren't offered are errors only. */
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

/** Where each number lies in the memory of a thread. */
const AT = { reads: 0, writes: 1, flushes: 2, barriers: 3, discards: 4, indirect: 5, errors: 6, bytesRead: 7, bytesWritten: 8, bytesDiscarded: 9, persistentGrants: 10 } as const
const NUMBERS = Object.keys(AT).length

/** What one thread counts. */
export class VbdCounters {
  /** Goes to another thread if its memory is shared. */
  readonly numbers: Float64Array

  constructor(numbers: Float64Array = new Float64Array(NUMBERS)) {
    this.numbers = numbers
  }

  static shared(): VbdCounters {
    return new VbdCounters(new Float64Array(new SharedArrayBuffer(NUMBERS * Float64Array.BYTES_PER_ELEMENT)))
  }

  /** Counts a request whose status is known. */
  count(requests: Requests, row: number): void {
    const done = requests.status[row] === BLKIF_RSP.OKAY
    const bytes = done ? (requests.bytes[row] ?? 0) : 0
    if (!done) this.#add(AT.errors, 1)
    this.#add(AT.indirect, requests.indirect[row] ?? 0)
    switch (requests.operation[row]) {
      case BLKIF_OP.READ:
        this.#add(AT.reads, 1)
        this.#add(AT.bytesRead, bytes)
        break
      case BLKIF_OP.WRITE:
        this.#add(AT.writes, 1)
        this.#add(AT.bytesWritten, bytes)
        break
      case BLKIF_OP.WRITE_BARRIER:
        this.#add(AT.barriers, 1)
        this.#add(AT.bytesWritten, bytes)
        break
      case BLKIF_OP.FLUSH_DISKCACHE:
        this.#add(AT.flushes, 1)
        this.#add(AT.bytesWritten, bytes)
        break
      case BLKIF_OP.DISCARD:
        this.#add(AT.discards, 1)
        this.#add(AT.bytesDiscarded, bytes)
        break
    }
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
    const [sum, dataPath, queues] = [(at: number) => this.#sum(at), () => this.#dataPath, () => this.#queues]
    this.stats = {
      get reads() {
        return sum(AT.reads)
      },
      get writes() {
        return sum(AT.writes)
      },
      get flushes() {
        return sum(AT.flushes)
      },
      get barriers() {
        return sum(AT.barriers)
      },
      get discards() {
        return sum(AT.discards)
      },
      get indirect() {
        return sum(AT.indirect)
      },
      get errors() {
        return sum(AT.errors)
      },
      get bytesRead() {
        return sum(AT.bytesRead)
      },
      get bytesWritten() {
        return sum(AT.bytesWritten)
      },
      get bytesDiscarded() {
        return sum(AT.bytesDiscarded)
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
    return [this.own, ...this.#ofThreads.values()].reduce((sum, { numbers }) => sum + (numbers[at] ?? 0), 0)
  }
}
