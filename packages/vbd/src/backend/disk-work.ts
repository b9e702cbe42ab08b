/**
 * Processes the requests of one disk ring: checks them, moves their data, and runs them on the
 * store in the order that barriers require.
 *
 * Requests start in ring order, 8 at a time. One grant-copy call fetches the data of all writes
 * among them. A store with batches starts all of them by one call. Any other store gets one call
 * for each run of neighbouring sectors.
 *
 * A request waits if it finds no buffer or needs more than the guest's remaining budget, and so do
 * all requests behind it. A barrier starts once all requests before it are complete. No request
 * starts until the barrier is complete.
 */
import { PUBLISH_AT_MOST, RingServer, type RingServerParts, type RingWork } from '@xenkit/backend'
import type { BlockStore, StoreBatch } from '@xenkit/block-store'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import type { Answers } from './answers.ts'
import type { DataPath } from './data-path.ts'
import type { Decoder } from './decoder.ts'
import type { Limits } from './limits.ts'
import type { Requests } from './requests.ts'
import type { VbdCounters } from './stats.ts'
import { StoreCalls } from './store-calls.ts'

export interface DiskWorkParts extends Omit<RingServerParts, 'rows' | 'work'> {
  readonly requests: Requests
  readonly decoder: Decoder
  readonly data: DataPath
  readonly answers: Answers
  readonly limits: Limits
  readonly store: BlockStore
  readonly counters: VbdCounters
  /**
   * The store's batch, if it has one. Its `done` calls `batchDone`, its `turned` the server's
   * `completed`.
   */
  readonly batch: StoreBatch | undefined
  /** See `StoreCalls`. */
  readonly storeFailed: (error: unknown) => void
}

export class DiskWork implements RingWork {
  readonly server: RingServer
  readonly #p: DiskWorkParts
  readonly #calls: StoreCalls
  /** Scratch: rows that `start` passes to the store. */
  readonly #rows: Uint16Array
  /** Whether the row started last is a barrier. */
  #barrierStarted = false

  constructor(parts: DiskWorkParts) {
    const { requests, ring, channel, guestTurn, loop, failed } = parts
    const { store, batch, data, storeFailed } = parts
    this.#p = parts
    // Properties are listed, not spread from `parts`: V8 needs one more load to reach those that it
    // adds to a copy.
    this.server = new RingServer({
      ring,
      channel,
      rows: requests,
      work: this,
      guestTurn,
      loop,
      failed,
    })
    this.#calls = new StoreCalls({
      store,
      batch,
      requests,
      data,
      guestTurn,
      stopped: () => this.server.isFull,
      completed: () => this.server.completed(),
      storeFailed,
    })
    this.#rows = new Uint16Array(requests.rows)
  }

  take(count: number): void {
    const { ring, requests, decoder } = this.#p
    for (let i = 0; i < count; i++) {
      const row = requests.take()
      decoder.decode(row, ring.messageAt(i))
      requests.wait(row)
    }
    decoder.fetchIndirect()
  }

  start(): void {
    while (!this.server.isStopped && this.#startSome());
  }

  submit(): void {
    this.#calls.proceed()
  }

  /** Called by the batch: a row's job completed asynchronously. */
  batchDone(row: number): void {
    this.#calls.batchDone(row)
  }

  deliver(rows: Uint16Array, count: number): void {
    this.#p.data.deliver(rows, count)
  }

  release(row: number): void {
    this.#p.data.release(row)
  }

  respond(row: number): void {
    const { requests, answers, counters } = this.#p
    answers.write(row)
    counters.count(requests, row)
  }

  /**
   * Starts waiting rows up to the remaining budget. @returns whether another attempt may start more
   */
  #startSome(): boolean {
    const { data, guestTurn, limits, requests } = this.#p
    const { bytes, operation, segmentCount, status } = requests
    const { sectors } = limits
    const rows = this.#rows
    let count = 0
    let full = false
    let spent = 0
    const budget = guestTurn.left
    try {
      for (let row = this.#mayStart(); row !== undefined; row = this.#mayStart()) {
        const work = 1 + (segmentCount[row] ?? 0)
        if (spent + work > budget) {
          this.server.waitForTurn()
          break
        }
        const refused = status[row] !== BLKIF_RSP.OKAY
        if (!refused && !data.reserve(row)) {
          full = true
          break
        }
        spent += work
        if (refused) {
          requests.refuse(row)
          continue
        }
        // The disk may have shrunk since the request was checked.
        if (bytes[row] !== 0 && requests.end(row) > sectors) status[row] = BLKIF_RSP.ERROR
        requests.start(row)
        this.#barrierStarted = operation[row] === BLKIF_OP.WRITE_BARRIER
        rows[count++] = row
      }
    } catch (error) {
      this.#abandon(0, count)
      throw error
    }
    guestTurn.spend(spent)
    if (count > 0) {
      this.#giveToStore(count)
      return true
    }
    if (!full || requests.done === 0) return false
    // Completed rows hold buffers until they are answered.
    this.server.answer()
    return true
  }

  /**
   * @returns the oldest waiting row if it may start now: the ring isn't stopped and no barrier
   *   forbids it
   */
  #mayStart(): number | undefined {
    const { requests } = this.#p
    const row = requests.next
    if (row === undefined) return undefined
    const { operation, status, started } = requests
    if (started === 0) return row
    const isBarrier = operation[row] === BLKIF_OP.WRITE_BARRIER && status[row] === BLKIF_RSP.OKAY
    return isBarrier || this.#barrierStarted ? undefined : row
  }

  /**
   * Passes the first `count` of `#rows` to the store, at most PUBLISH_AT_MOST at a time. Rows that
   * complete synchronously are answered before the next ones are passed.
   */
  #giveToStore(count: number): void {
    const { data } = this.#p
    const rows = this.#rows
    let given = 0
    try {
      while (given < count && !this.server.isStopped) {
        const end = Math.min(given + PUBLISH_AT_MOST, count)
        data.fetch(rows, given, end)
        const first = given
        // From here on the store completes these rows.
        given = end
        this.#calls.start(rows, first, end)
        this.server.answerIfWorthwhile()
      }
    } finally {
      this.#abandon(given, count)
    }
  }

  /**
   * Completes the part of `#rows` that never reached the store. Otherwise `settle` would wait for
   * it for ever.
   */
  #abandon(first: number, end: number): void {
    for (let i = first; i < end; i++) this.#p.requests.complete(this.#rows[i] ?? 0)
  }
}
