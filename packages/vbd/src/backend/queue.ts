/**
 * One ring of a connected disk: drains requests, has their data moved, runs them on the store in an
 * order that barriers decide, and answers.
 *
 * A turn takes what the ring holds, 16 requests at a time: all slots are copied and checked. They
 * start 8 at a time: one grant-copy call fetches the data of all writes, one call starts all of
 * them where the store takes batches, and elsewhere requests for neighbouring sectors become one
 * store call. Completions gather until half of what is in flight is done (8 at most), then one
 * grant-copy call delivers the data of all reads and one store of rsp_prod publishes every answer:
 * the guest has work while the next 8 are done.
 *
 * Requests start in the order of the ring. One that finds no buffer, or is too large for what is
 * left of the guest's turn, holds up those behind it, and so does a barrier: it starts when the
 * store is done with all before it, and none starts beside it.
 */
import type { EventChannel } from '@xenkit/evtchn'
import type { BackRing } from '@xenkit/ring'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import type { CloseOptions } from '@xenkit/xenbus'
import type { BlockStore } from '@xenkit/block-store'
import type { StoreBatch } from '@xenkit/block-store'
import { AdaptivePoll } from '@xenkit/backend'
import type { Answers } from './answers.ts'
import type { DataPath } from './data-path.ts'
import type { Decoder } from './decoder.ts'
import type { GuestTurn } from '@xenkit/backend'
import type { Limits } from './limits.ts'
import type { Requests } from './requests.ts'
import { RowQueue } from '@xenkit/backend'
import type { VbdCounters } from './stats.ts'
import { StoreCalls } from './store-calls.ts'

/**
 * Most answers that wait for company. With 8 the rate at depth 32 is 0.88 of that of a C backend
 * which publishes 16, with 16 it is 0.70, with 4 0.78.
 */
const PUBLISH_AT_MOST = 8

/**
 * Most requests that are checked in one go: the code for that is back in the processor's cache half
 * as often. More make the guest wait for the first answer.
 */
const TAKE_AT_MOST = 16

/**
 * So many looks at an empty ring take as long as a page of data, as a power of two: see
 * `GuestTurn`.
 */
const LOOKS_AS_WORK = 6

/** After the frontend closes: longest wait for late requests, after each answer and in total. */
const LATE_MS = 200
const FINISH_MS = 2_000

export interface VbdQueueParts {
  readonly ring: BackRing
  readonly channel: EventChannel
  readonly requests: Requests
  readonly decoder: Decoder
  readonly data: DataPath
  readonly answers: Answers
  /** Of the guest's, which all its rings on this thread share. */
  readonly guestTurn: GuestTurn
  readonly limits: Limits
  readonly store: BlockStore
  readonly counters: VbdCounters
  /**
   * The guest broke the ring's rules, or the hypervisor refused a whole call: the queue has
   * stopped.
   */
  readonly failed: (error: unknown) => void
  /** Of the store's, to which the queue is what `done` and `turned` tell. */
  readonly batch: StoreBatch | undefined
  /** See `StoreCalls`. */
  readonly storeFailed: (error: unknown) => void
}

export class VbdQueue {
  readonly #p: VbdQueueParts
  readonly #calls: StoreCalls
  /**
   * Rows that have been checked, and neither begun nor, where that found something wrong, been done
   * with.
   */
  readonly #waiting: RowQueue
  /** Rows that the store is done with, or that never got there. */
  readonly #done: Uint16Array
  #doneCount = 0
  /** Those of the work in hand. */
  readonly #rows: Uint16Array
  #atStore = 0
  #barrierAtStore = false
  /** Within a turn, which looks at all that its calls change. */
  #busy = false
  #turnPlanned = false
  #finishPlanned = false
  /** Rows ran out while the ring may hold more. */
  #starved = false
  /** Requests that were taken since the ring was connected. */
  #taken = 0
  /** No more requests are taken. */
  #full = false
  /** No more are begun either. */
  #stopped = false
  /** No more answers are given either: the ring can't be trusted. */
  #broken = false
  #settled: (() => void) | undefined
  readonly #poll = new AdaptivePoll()
  // Made once: they are passed often.
  readonly #drainSome = (): number =>
    this.#p.ring.drain(Math.min(this.#p.requests.freeCount, TAKE_AT_MOST))
  readonly #plannedTurn = (): void => {
    this.#turnPlanned = false
    try {
      this.resume()
      this.#work(true)
    } catch (error) {
      // Of answering, say. Others wait for their turn behind this one.
      this.#stop(error)
    }
    this.#tellIfIdle()
  }
  readonly #plannedFinish = (): void => {
    this.#finishPlanned = false
    if (this.#doneCount > 0) this.#answer()
    this.resume()
  }

  constructor(parts: VbdQueueParts) {
    const { requests } = parts
    this.#p = parts
    this.#calls = new StoreCalls({
      ...parts,
      stopped: () => this.#stopped || this.#full,
      settled: (row) => this.#settle(row),
      turned: () => this.turned(),
    })
    this.#rows = new Uint16Array(requests.rows)
    this.#waiting = new RowQueue(requests.rows)
    this.#done = new Uint16Array(requests.rows)
  }

  /**
   * Takes requests until the ring is empty, rows run out or the guest has had its turn: then the
   * event loop goes round before it gets another, whatever events come. Call it on every event.
   */
  turn(): void {
    this.#poll.woken()
    this.#p.guestTurn.woken()
    if (!this.#turnPlanned) this.#work(true)
  }

  /** Goes on with requests that waited, for buffers say. */
  resume(): void {
    if (!this.#waiting.isEmpty()) this.#work(false)
  }

  /**
   * Stops taking requests and waits until the store has let go of those in flight, which are
   * answered. What the ring holds is answered first unless the frontend is gone.
   */
  async settle({ frontend }: CloseOptions): Promise<void> {
    if (frontend === 'closed') await this.#finish()
    this.#stopped = true
    if (this.#doneCount > 0) this.#answer()
    await this.#idle()
  }

  /**
   * Answers what the guest has sent and what it still sends. Linux's blkfront (5.15 to 6.12) that
   * is asked to close stops its queues and closes at once. What is in them by then it sends when
   * there is an event, and its removal hangs until the last request is answered.
   *
   * That event comes with the answers to what was in flight. Where nothing was, there is none:
   * blkfront before 5.15 has freed by then what its interrupt handler looks at, and any event would
   * be its panic.
   */
  async #finish(): Promise<void> {
    const timer = setTimeout(() => (this.#full = true), FINISH_MS)
    let answered = this.#taken - this.#inFlight
    this.turn()
    await this.#idle()
    while (answered !== this.#taken && !this.#full) {
      answered = this.#taken
      await new Promise((resolve) => setTimeout(resolve, LATE_MS))
      await this.#idle()
    }
    clearTimeout(timer)
  }

  /** Requests that were taken and are not answered. */
  get #inFlight(): number {
    const { rows, freeCount } = this.#p.requests
    return rows - freeCount
  }

  /** Requests that the store has. */
  get atStore(): number {
    return this.#atStore
  }

  async #idle(): Promise<void> {
    if (!this.#isIdle()) await new Promise<void>((resolve) => (this.#settled = resolve))
  }

  /** Nothing is under way that will go on by itself. */
  #isIdle(): boolean {
    return (
      this.#atStore === 0 &&
      (this.#stopped ||
        (this.#waiting.isEmpty() && this.#doneCount === 0 && !this.#turnPlanned && !this.#starved))
    )
  }

  #tellIfIdle(): void {
    if (this.#isIdle()) this.#settled?.()
  }

  /** Told by the batch: a row's job is done, that was not at once. */
  batchDone(row: number): void {
    this.#calls.batchDone(row)
  }

  /** Told by whatever is done with some at a time of its own. */
  turned(): void {
    if (this.#busy) return
    this.resume()
    this.#answerIfWorthwhile()
  }

  #work(takes: boolean): void {
    if (this.#stopped || this.#busy) return
    this.#busy = true
    try {
      try {
        if (takes) this.#drain()
        else this.#begin()
      } finally {
        this.#calls.proceed()
      }
    } catch (error) {
      this.#stop(error)
    } finally {
      this.#busy = false
    }
    this.#answerIfWorthwhile()
  }

  #drain(): void {
    const { ring, requests, guestTurn } = this.#p
    while (!this.#full && !this.#stopped && !this.#turnPlanned) {
      if (guestTurn.left === 0) return this.#planTurn()
      if (requests.freeCount === 0) {
        this.#starved = true
        return
      }
      let count = this.#drainSome()
      // Not while something is at the store, whose answers would wait.
      if (count === 0 && this.#atStore === 0 && this.#doneCount === 0) {
        count = this.#poll.run(this.#drainSome)
        guestTurn.spend(this.#poll.looks >> LOOKS_AS_WORK)
      }
      if (count === 0) {
        if (!ring.finalCheck()) return
        continue
      }
      this.#taken += count
      this.#accept(count)
      if (this.#isWorthwhile()) this.#answer()
    }
  }

  #planTurn(): void {
    if (this.#turnPlanned) return
    this.#turnPlanned = true
    this.#p.guestTurn.wait(this.#plannedTurn)
  }

  /** Checks the first `count` requests of the ring's image and begins what may begin. */
  #accept(count: number): void {
    const { ring, requests, decoder } = this.#p
    for (let i = 0; i < count; i++) {
      const row = requests.take()
      decoder.decode(row, ring.messageAt(i))
      this.#waiting.push(row)
    }
    decoder.fetchIndirect()
    this.#begin()
  }

  #begin(): void {
    while (this.#beginSome());
  }

  /** @returns whether it is worth trying again */
  #beginSome(): boolean {
    const { data, guestTurn, limits, requests } = this.#p
    const { bytes, operation, segmentCount, status } = requests
    const { sectors } = limits
    const rows = this.#rows
    let count = 0
    let full = false
    let spent = 0
    const budget = guestTurn.left
    try {
      for (let row = this.#mayBegin(); row !== undefined; row = this.#mayBegin()) {
        const work = 1 + (segmentCount[row] ?? 0)
        if (spent + work > budget) {
          this.#planTurn()
          break
        }
        const refused = status[row] !== BLKIF_RSP.OKAY
        if (!refused && !data.reserve(row)) {
          full = true
          break
        }
        spent += work
        this.#waiting.shift()
        if (refused) {
          this.#done[this.#doneCount++] = row
          continue
        }
        // It may have shrunk since that was checked.
        if (bytes[row] !== 0 && requests.end(row) > sectors) status[row] = BLKIF_RSP.ERROR
        this.#atStore++
        this.#barrierAtStore = operation[row] === BLKIF_OP.WRITE_BARRIER
        rows[count++] = row
      }
    } catch (error) {
      this.#abandon(0, count)
      throw error
    }
    guestTurn.spend(spent)
    if (count > 0) {
      this.#start(count)
      return true
    }
    if (!full || this.#doneCount === 0) return false
    // Those that are done have buffers.
    this.#answer()
    return true
  }

  /** @returns the oldest request that waits, if nothing says that it has to wait on */
  #mayBegin(): number | undefined {
    const row = this.#waiting.first()
    if (row === undefined || this.#barrierAtStore || this.#stopped) return undefined
    const { operation, status } = this.#p.requests
    const waits =
      operation[row] === BLKIF_OP.WRITE_BARRIER &&
      status[row] === BLKIF_RSP.OKAY &&
      this.#atStore > 0
    return waits ? undefined : row
  }

  /**
   * Gives the first `count` of `#rows` to the store, some at a time: what is done at once is
   * answered before the next.
   */
  #start(count: number): void {
    const { data } = this.#p
    const rows = this.#rows
    let given = 0
    try {
      while (given < count && !this.#stopped) {
        const end = Math.min(given + PUBLISH_AT_MOST, count)
        data.fetch(rows, given, end)
        const first = given
        // The store's from now on.
        given = end
        this.#calls.start(rows, first, end)
        if (this.#isWorthwhile()) this.#answer()
      }
    } finally {
      this.#abandon(given, count)
    }
  }

  /**
   * Some of `#rows` never get to the store: nobody else would end them, and `settle` would wait for
   * ever.
   */
  #abandon(first: number, end: number): void {
    for (let i = first; i < end; i++) this.#settle(this.#rows[i] ?? 0)
  }

  #settle(row: number): void {
    this.#done[this.#doneCount++] = row
    if (--this.#atStore === 0) this.#barrierAtStore = false
  }

  /**
   * Answers now if half of what is outstanding is done, else when the event loop has gone round.
   */
  #answerIfWorthwhile(): void {
    if (this.#doneCount === 0 || this.#busy) return
    if (this.#isWorthwhile()) {
      this.#answer()
      return this.resume()
    }
    if (this.#finishPlanned) return
    this.#finishPlanned = true
    setImmediate(this.#plannedFinish)
  }

  #isWorthwhile(): boolean {
    return this.#doneCount > 0 && this.#doneCount >= Math.min(PUBLISH_AT_MOST, this.#atStore)
  }

  #answer(): void {
    const { data, ring, channel } = this.#p
    try {
      if (!this.#broken) data.deliver(this.#done, this.#doneCount)
    } catch (error) {
      this.#stop(error)
    }
    for (let i = 0; i < this.#doneCount; i++) {
      const row = this.#done[i] ?? 0
      try {
        data.release(row)
      } catch (error) {
        // What may still be mapped is not answered (XSA-396).
        this.#stop(error)
      }
      if (!this.#broken) this.#respond(row)
    }
    this.#doneCount = 0
    try {
      if (!this.#broken && ring.publish()) channel.notify()
    } catch (error) {
      this.#stop(error)
    }
    if (this.#starved) {
      this.#starved = false
      this.#planTurn()
    }
    this.#tellIfIdle()
  }

  #respond(row: number): void {
    const { requests, answers, counters } = this.#p
    answers.write(row)
    counters.count(requests, row)
    requests.release(row)
  }

  /** From now on nothing is taken, started or answered. */
  abandon(): void {
    this.#full = true
    this.#stopped = true
    this.#broken = true
    this.#tellIfIdle()
  }

  #stop(error: unknown): void {
    this.abandon()
    this.#p.failed(error)
  }
}
