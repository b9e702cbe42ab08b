/**
 * Fair turns between the guests of an event loop. What is shared out is the loop's time, and those
 * who share it are guests: one with four disks of four rings has no more of it than one with a
 * single ring. Work is counted, not timed: a request is 1, and each page of its data 1 more. Both
 * take the loop about a microsecond, so that no guest gains by asking for more at once.
 *
 * A guest that has used up its turn waits until the loop has gone round. In that time every other
 * guest's events are delivered, and every other one that waits has its turn. So between a guest's
 * event and its answer each other one has at most two turns: the rest of one, and the next. A guest
 * that is busy all the time has one.
 */
import type { EventLoop, GuestTurn } from '@xenkit/hypervisor'

/** A request with 256 pages of data, or 128 requests of a page: a quarter of a millisecond. */
export const TURN = 257

/**
 * The turn of the only guest: nobody waits for it. Going round takes 2 us and 430 bytes of heap,
 * too much for every 128 requests.
 */
const TURN_ALONE = 16 * TURN

/** The guest's turn on this loop, for one more user, who closes it. */
export function openGuestTurn(loop: EventLoop, domid: number): GuestTurn {
  const turn = loop.guests.get(domid) ?? new CountedTurn(loop, domid)
  loop.guests.set(domid, turn)
  turn.open()
  return turn
}

class CountedTurn implements GuestTurn {
  readonly #loop: EventLoop
  readonly #domid: number
  #users = 0
  #round: number
  #left = 0
  #waits = false
  /** Rings that have more to do, the one that has waited longest first. */
  readonly #rings: (() => void)[] = []

  constructor(loop: EventLoop, domid: number) {
    this.#loop = loop
    this.#domid = domid
    this.#round = loop.round - 1
  }

  open(): void {
    this.#users++
  }

  get left(): number {
    const { round, guests } = this.#loop
    if (this.#round !== round) {
      this.#round = round
      this.#left = guests.size > 1 ? TURN : TURN_ALONE
    }
    return this.#left
  }

  /** With others there, an event begins no new turn: another may have come in the same round. */
  woken(): void {
    if (this.#loop.guests.size === 1) this.#left = TURN_ALONE
  }

  spend(work: number): void {
    this.#left = Math.max(0, this.left - work)
  }

  wait(resume: () => void): void {
    this.#rings.push(resume)
    this.#wait()
  }

  run(): void {
    this.#waits = false
    for (let rings = this.#rings.length; rings > 0 && this.left > 0; rings--) {
      const ring = this.#rings.shift()
      ring?.()
      // This ring needs more than the remaining budget: stop, so that the next isn't queued again
      // unserved.
      if (this.#rings.at(-1) === ring) break
    }
    if (this.#rings.length > 0) this.#wait()
  }

  close(): void {
    if (--this.#users === 0) this.#loop.guests.delete(this.#domid)
  }

  #wait(): void {
    if (this.#waits) return
    this.#waits = true
    this.#loop.wait(this)
  }
}
