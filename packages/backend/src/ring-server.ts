/**
 * Serves one ring: takes its messages in fair turns, and answers them in batches. What a message
 * asks for is the device's matter, which is a `RingWork`.
 *
 * A turn takes what the ring holds, 16 messages at a time: all slots are copied, and a device
 * starts what it can. Completed rows gather until there are half as many as are still in flight (8
 * at most). Then all are answered, and one store of rsp_prod publishes the answers: the other end
 * has work while the next 8 complete.
 */
import type { EventChannel } from '@xenkit/evtchn'
import type { EventLoop, GuestTurn } from '@xenkit/hypervisor'
import type { BackRing } from '@xenkit/ring'
import type { CloseOptions } from '@xenkit/xenbus'
import { AdaptivePoll } from './adaptive-poll.ts'
import type { RowTable } from './row-table.ts'

/**
 * Most answers that wait for company. A disk's rate at depth 32 is 0.88 of that of a C backend
 * which publishes 16 with 8, 0.70 with 16, 0.78 with 4.
 */
export const PUBLISH_AT_MOST = 8

/**
 * Most messages that are taken in one go: the code for that is back in the processor's cache half
 * as often. More make the other end wait for the first answer.
 */
const TAKE_AT_MOST = 16

/** log2 of the empty polls that cost one unit of work: see `openGuestTurn`. */
const LOOKS_AS_WORK = 6

/** After the frontend closes: longest wait for late messages, after each answer and in total. */
const LATE_MS = 200
const FINISH_MS = 2_000

/** What the server still does. It only rises. */
const Phase = {
  SERVING: 0,
  /** No message is taken. */
  FULL: 1,
  /** No row is started either. */
  STOPPED: 2,
  /** No row is answered either: the ring can't be trusted, or is about to go. */
  BROKEN: 3,
} as const

type Phase = (typeof Phase)[keyof typeof Phase]

/**
 * What a device does with the messages of its ring. Each has a row in the table. None of these
 * functions is called within another one, `deliver`, `release` and `respond` excepted, which
 * `start` causes by `RingServer.answer`. What they throw stops the ring, and goes to `failed`.
 */
export interface RingWork {
  /** Takes the first `count` messages of the ring's image into a row each, and lets them wait. */
  take(count: number): void
  /** Starts or refuses waiting rows, oldest first, as many as may start now; spends their work. */
  start(): void
  /** Called at the end of each round of `take` and `start`: submits what they deferred. */
  submit(): void
  /** Hands the data of done rows, the first `count` of `rows`, to the other end. */
  deliver(rows: Uint16Array, count: number): void
  /** Ends what a done row holds of the other end's memory, before it is answered (XSA-396). */
  release(row: number): void
  /** Writes the answer of a done row, whole, into the ring's next response slot. */
  respond(row: number): void
}

/** What a `RingServer` serves, and with what. */
export interface RingServerParts {
  readonly ring: BackRing
  /** Its handler calls `turn`. */
  readonly channel: EventChannel
  readonly rows: RowTable
  readonly work: RingWork
  /** The guest's, which all its rings on this event loop share. */
  readonly guestTurn: GuestTurn
  readonly loop: EventLoop
  /** The guest broke the ring's rules, or the hypervisor refused a call: the ring has stopped. */
  readonly failed: (error: unknown) => void
}

/**
 * Serves one ring for a `RingWork`. Call `turn` on every event, `completed` when rows completed on
 * their own, and `settle` before the ring is unmapped. No function throws what goes wrong with the
 * ring: it goes to `failed`, once.
 */
export class RingServer {
  readonly #p: RingServerParts
  readonly #poll: AdaptivePoll
  #phase: Phase = Phase.SERVING
  #turnPlanned = false
  #answerPlanned = false
  /** The last turn ended for want of a free row: the ring isn't armed, and may hold more. */
  #outOfRows = false
  #idle: (() => void) | undefined
  // Made once: they are passed often.
  readonly #drainSome = (): number => this.#p.ring.drain(Math.min(this.#p.rows.free, TAKE_AT_MOST))
  readonly #plannedTurn = (): void => {
    this.#turnPlanned = false
    try {
      this.resume()
      this.#run(true)
    } catch (error) {
      // Other rings wait for their turn behind this one.
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
   * Takes messages until the ring is empty, rows run out or the guest has had its turn: then the
   * event loop goes round before it gets another, whatever events come. Call it on every event.
   */
  turn(): void {
    this.#poll.woken()
    this.#p.guestTurn.woken()
    if (!this.#turnPlanned) this.#run(true)
  }

  /** Goes on with rows that wait, for a buffer say. */
  resume(): void {
    if (this.#p.rows.waiting > 0) this.#run(false)
  }

  /** Call it when rows completed outside of `RingWork`'s functions, once for several. */
  completed(): void {
    this.resume()
    this.#answerOrDefer()
  }

  /** For `RingWork.start`: what waits needs more than is left of the guest's turn. */
  waitForTurn(): void {
    if (this.#turnPlanned) return
    this.#turnPlanned = true
    this.#p.guestTurn.wait(this.#plannedTurn)
  }

  /** For `RingWork.start`: answers if half of what is in flight is done. */
  answerIfWorthwhile(): void {
    if (this.#isWorthwhile()) this.answer()
  }

  /** Answers all rows that are done, and frees them. */
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
        work.release(row)
      } catch (error) {
        // A page that may still be mapped is not answered (XSA-396).
        this.stop(error)
      }
      if (!this.#isBroken) work.respond(row)
      rows.release(row)
    }
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

  /** No message is taken any more, so there is no second call for one that has several. */
  get isFull(): boolean {
    return this.#phase >= Phase.FULL
  }

  /** No row may be started any more. */
  get isStopped(): boolean {
    return this.#phase >= Phase.STOPPED
  }

  /** Rows that were started and aren't complete: something may still use their memory. */
  get inFlight(): number {
    return this.#p.rows.started
  }

  /**
   * Stops taking messages and waits until all rows in flight are complete, which are answered. What
   * the ring holds is answered first unless the frontend is gone.
   */
  async settle({ frontend }: CloseOptions): Promise<void> {
    if (frontend === 'closed') await this.#finish()
    this.#rise(Phase.STOPPED)
    if (this.#p.rows.done > 0) this.answer()
    await this.#untilIdle()
  }

  /** Takes, starts and answers nothing from now on. */
  abandon(): void {
    this.#rise(Phase.BROKEN)
    this.#tellIfIdle()
  }

  /** As `abandon`, because of an error, which `failed` is told. */
  stop(error: unknown): void {
    this.abandon()
    this.#p.failed(error)
  }

  /**
   * Answers what the guest has sent and what it still sends. Linux's blkfront (5.15 to 6.12) that
   * is asked to close stops its queues and closes at once. It sends what they hold when an event
   * comes, and its removal hangs until the last request is answered.
   *
   * That event comes with the answers to requests in flight. Where nothing was in flight there is
   * no event: blkfront before 5.15 has freed by then what its interrupt handler looks at, and any
   * event would be its panic.
   */
  async #finish(): Promise<void> {
    const { ring } = this.#p
    const timer = setTimeout(() => this.#rise(Phase.FULL), FINISH_MS)
    let answered = ring.answered
    this.turn()
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

  /** Nothing is in flight that will go on by itself. */
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
      // Not while something is in flight, whose answers would wait.
      if (count === 0 && rows.started === 0 && rows.done === 0) {
        count = this.#poll.run(this.#drainSome)
        guestTurn.spend(this.#poll.looks >> LOOKS_AS_WORK)
      }
      if (count === 0) {
        if (!ring.finalCheck()) return
        continue
      }
      work.take(count)
      work.start()
      this.answerIfWorthwhile()
    }
  }

  /** Answers now if half of what is in flight is done, else when the event loop has gone round. */
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
