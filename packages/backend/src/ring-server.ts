/**
 * Serves one ring: takes its messages in fair turns and answers them in batches. The device's
 * `RingWork` decides what a message does.
 *
 * A turn takes 16 messages at a time, until the ring is empty: it copies all their slots, and the
 * device starts what it can. Completed rows are collected until there are half as many as are still
 * in flight, or 8. Then all are answered, and one store of rsp_prod publishes the answers: the
 * other end has work while the next 8 complete.
 */
import type { EventChannel } from '@xenkit/evtchn'
import type { EventLoop, GuestTurn } from '@xenkit/hypervisor'
import type { BackRing } from '@xenkit/ring'
import type { CloseOptions } from '@xenkit/xenbus'
import { AdaptivePoll } from './adaptive-poll.ts'
import type { RowTable } from './row-table.ts'

/**
 * Most completed rows that wait to be answered together. At depth 32, a disk reaches 0.88 of the
 * rate of a C backend, which publishes 16 at a time; with 16 here 0.70, with 4 0.78.
 */
export const PUBLISH_AT_MOST = 8

/**
 * Most messages that are taken together. With fewer, the processor loads the same code into its
 * cache more often. With more, the other end waits longer for the first answer.
 */
const TAKE_AT_MOST = 16

/** log2 of the empty polls that cost one unit of work: see `openGuestTurn`. */
const LOOKS_AS_WORK = 6

/**
 * After the frontend closes: longest wait for late messages, after each answer and in total. In
 * milliseconds.
 */
const LATE_MS = 200
const FINISH_MS = 2_000

/** Phases of a server, from serving to stopped. A server never goes back to an earlier one. */
const Phase = {
  SERVING: 0,
  /** Serves what a closed frontend has sent and still sends. */
  FINISHING: 1,
  /** Takes no message. */
  FULL: 2,
  /** Starts no row either. */
  STOPPED: 3,
  /** Answers no row either: the ring can't be trusted, or is about to be unmapped. */
  BROKEN: 4,
} as const

type Phase = (typeof Phase)[keyof typeof Phase]

/**
 * The device's part of serving a ring: what its messages do. Each message has a row in the table.
 * The functions are never called within one another, with one exception: `start` may call
 * `RingServer.answer`, which calls `deliver`, `release` and `respond`. An error that they throw
 * stops the ring and goes to `failed`.
 */
export interface RingWork {
  /**
   * Decodes the first `count` messages of the ring's image into a row each, and puts the rows in
   * `waiting`.
   */
  take(count: number): void
  /**
   * Starts or refuses waiting rows, oldest first, as many as may start now. Spends their work from
   * the guest's turn.
   */
  start(): void
  /** Submits what `take` and `start` deferred. Called when the ring is empty, or a turn ends. */
  submit(): void
  /** Called when the guest has sent no more messages, and will notify of the next one. */
  ringEmpty?(): void
  /** Delivers the data of the first `count` of `rows`, which are done, to the other end. */
  deliver(rows: Uint16Array, count: number): void
  /** Releases what a done row uses of the other end's memory, before it is answered (XSA-396). */
  release(row: number): void
  /** Writes a done row's answer into the ring's next response slot, every byte of it. */
  respond(row: number): void
}

/** Parts of a `RingServer`. */
export interface RingServerParts {
  readonly ring: BackRing
  /** The ring's event channel, whose handler has to call `turn`. */
  readonly channel: EventChannel
  readonly rows: RowTable
  readonly work: RingWork
  /** The guest's turn, which all its rings on this event loop share: see `openGuestTurn`. */
  readonly guestTurn: GuestTurn
  readonly loop: EventLoop
  /**
   * Called when the ring has stopped: the guest broke its rules, or the hypervisor refused a call.
   */
  readonly failed: (error: unknown) => void
}

/**
 * Serves one ring for a `RingWork`. Call `turn` on every event, `completed` when rows completed
 * asynchronously, and `settle` before the ring is unmapped. An error of the ring isn't thrown: it
 * goes to `failed`.
 */
export class RingServer {
  readonly #p: RingServerParts
  readonly #poll: AdaptivePoll
  #phase: Phase = Phase.SERVING
  #turnPlanned = false
  #answerPlanned = false
  /**
   * The last turn ended because no row was free. The ring isn't armed, and may hold more messages.
   */
  #outOfRows = false
  #idle: (() => void) | undefined
  // Functions that are passed often, created once.
  readonly #drainSome = (): number => this.#p.ring.drain(Math.min(this.#p.rows.free, TAKE_AT_MOST))
  readonly #plannedTurn = (): void => {
    this.#turnPlanned = false
    try {
      this.resume()
      this.#run(true)
    } catch (error) {
      // Don't throw: other rings wait for their turn behind this one.
      this.stop(error)
    }
    this.#tellIfIdle()
  }
  readonly #plannedAnswer = (): void => {
    this.#answerPlanned = false
    if (this.#p.rows.done > 0) this.answer()
    this.resume()
  }

  constructor(parts: RingServerParts) {
    this.#p = parts
    this.#poll = new AdaptivePoll(parts.loop)
  }

  /**
   * Takes messages until the ring is empty, no row is free, or the guest's turn is used up. After
   * that the guest's next turn comes in the event loop's next round, whatever events come before.
   * Call it on every event.
   */
  turn(): void {
    this.#poll.woken()
    this.#p.guestTurn.woken()
    if (!this.#turnPlanned) this.#run(true)
  }

  /** Tries again to start rows that wait, for a buffer say. */
  resume(): void {
    if (this.#p.rows.waiting > 0) this.#run(false)
  }

  /**
   * Call it after rows completed asynchronously, outside of `RingWork`'s functions, once for
   * several.
   */
  completed(): void {
    this.resume()
    this.#answerOrDefer()
  }

  /**
   * For `RingWork.start`: call it when the next row needs more than the guest's remaining budget.
   */
  waitForTurn(): void {
    if (this.#turnPlanned) return
    this.#turnPlanned = true
    this.#p.guestTurn.wait(this.#plannedTurn)
  }

  /** For `RingWork.start`: answers done rows if they are half as many as those in flight. */
  answerIfWorthwhile(): void {
    if (this.#isWorthwhile()) this.answer()
  }

  /** Answers all done rows and frees them. */
  answer(): void {
    const { ring, channel, rows, work } = this.#p
    const { doneRows, done } = rows
    try {
      if (!this.#isBroken) work.deliver(doneRows, done)
    } catch (error) {
      this.stop(error)
    }
    for (let i = 0; i < done; i++) {
      const row = doneRows[i] ?? 0
      try {
        // Don't answer a row whose pages may still be mapped (XSA-396).
        work.release(row)
        if (!this.#isBroken) work.respond(row)
      } catch (error) {
        this.stop(error)
      }
    }
    rows.releaseDone()
    try {
      if (!this.#isBroken && ring.publish()) channel.notify()
    } catch (error) {
      this.stop(error)
    }
    if (this.#outOfRows) {
      this.#outOfRows = false
      this.waitForTurn()
    }
    this.#tellIfIdle()
  }

  /** Whether the frontend has closed: rows that wait for anything but memory shouldn't any more. */
  get isFinishing(): boolean {
    return this.#phase >= Phase.FINISHING
  }

  /**
   * Whether no more messages are taken. A device then makes no further call for a row that takes
   * several.
   */
  get isFull(): boolean {
    return this.#phase >= Phase.FULL
  }

  /** Whether no more rows may be started. */
  get isStopped(): boolean {
    return this.#phase >= Phase.STOPPED
  }

  /** Number of started rows that aren't complete: their memory is in use. */
  get inFlight(): number {
    return this.#p.rows.started
  }

  /**
   * Stops taking messages, waits until all rows in flight are complete, and answers them. Messages
   * that the ring still holds are answered first, unless the frontend is gone.
   */
  async settle({ frontend }: CloseOptions): Promise<void> {
    if (frontend === 'closed') await this.#finish()
    this.#rise(Phase.STOPPED)
    if (this.#p.rows.done > 0) this.answer()
    await this.#untilIdle()
  }

  /** Stops at once: takes, starts and answers nothing any more. */
  abandon(): void {
    this.#rise(Phase.BROKEN)
    this.#tellIfIdle()
  }

  /** As `abandon`, and calls `failed` with the error. */
  stop(error: unknown): void {
    this.abandon()
    this.#p.failed(error)
  }

  /**
   * Answers the messages that the guest has sent and those that it still sends. Linux's blkfront
   * (5.15 to 6.12), asked to close, stops its queues and closes at once. It sends what the queues
   * hold at its next event, and its removal hangs until the last request is answered.
   *
   * That event comes with the answers to requests in flight. If none is in flight, no event may be
   * sent: blkfront before 5.15 has freed what its interrupt handler uses, and would panic.
   */
  async #finish(): Promise<void> {
    const { ring } = this.#p
    const timer = setTimeout(() => this.#rise(Phase.FULL), FINISH_MS)
    let answered = ring.answered
    this.#rise(Phase.FINISHING)
    this.turn()
    this.resume()
    await this.#untilIdle()
    while (answered !== ring.answered && !this.isFull) {
      answered = ring.answered
      await new Promise((resolve) => setTimeout(resolve, LATE_MS))
      await this.#untilIdle()
    }
    clearTimeout(timer)
  }

  get #isBroken(): boolean {
    return this.#phase === Phase.BROKEN
  }

  #rise(phase: Phase): void {
    if (phase > this.#phase) this.#phase = phase
  }

  async #untilIdle(): Promise<void> {
    if (!this.#isIdle()) await new Promise<void>((resolve) => (this.#idle = resolve))
  }

  /** Whether nothing is in flight, and nothing is planned that would start more. */
  #isIdle(): boolean {
    const { rows } = this.#p
    if (rows.started > 0) return false
    return this.isStopped || (rows.waiting === 0 && rows.done === 0 && !this.#turnPlanned)
  }

  #tellIfIdle(): void {
    if (this.#isIdle()) this.#idle?.()
  }

  #run(takes: boolean): void {
    if (this.isStopped) return
    const { work } = this.#p
    try {
      try {
        if (takes) this.#drain()
        else work.start()
      } finally {
        work.submit()
      }
    } catch (error) {
      this.stop(error)
    }
    this.#answerOrDefer()
  }

  #drain(): void {
    const { ring, rows, work, guestTurn } = this.#p
    while (!this.isFull && !this.#turnPlanned) {
      if (guestTurn.left === 0) return this.waitForTurn()
      if (rows.free === 0) {
        this.#outOfRows = true
        return
      }
      let count = this.#drainSome()
      if (count === 0 && rows.waiting > 0) {
        // Rows that wait to be submitted together aren't in flight yet: a poll would delay them.
        work.submit()
        this.answerIfWorthwhile()
      }
      // Don't poll while rows are in flight: their answers would wait.
      if (count === 0 && rows.started === 0 && rows.done === 0) {
        count = this.#poll.run(this.#drainSome)
        guestTurn.spend(this.#poll.looks >> LOOKS_AS_WORK)
      }
      if (count === 0) {
        if (!ring.finalCheck()) return work.ringEmpty?.()
        continue
      }
      work.take(count)
      work.start()
      this.answerIfWorthwhile()
    }
  }

  /**
   * Answers now if half as many rows are done as are in flight, else in the event loop's next
   * round.
   */
  #answerOrDefer(): void {
    if (this.#p.rows.done === 0) return
    if (this.#isWorthwhile()) {
      this.answer()
      return this.resume()
    }
    if (this.#answerPlanned) return
    this.#answerPlanned = true
    setImmediate(this.#plannedAnswer)
  }

  #isWorthwhile(): boolean {
    const { done, started } = this.#p.rows
    return done > 0 && done >= Math.min(PUBLISH_AT_MOST, started)
  }
}
