/**
 * Fair turns for the guests of an event loop. Guests share the loop's time equally, however many
 * devices and rings each has. Work is counted, not timed: 1 for a request, plus 1 for each page of
 * its data. Either takes the loop about a microsecond, so a guest gains nothing by larger requests.
 *
 * A guest that has used up its turn waits for the loop's next round. Until then events of all other
 * guests are delivered, and each waiting guest gets its turn. So between a guest's event and its
 * answer, every other guest has at most two turns: the rest of one and the next. A guest that is
 * busy all the time has one.
 */
import type { EventLoop, GuestTurn } from '@xenkit/hypervisor'

/**
 * Work of one turn: a request with 256 pages of data, or 128 one-page requests. A quarter of a
 * millisecond.
 */
export const TURN = 257

/**
 * Work of one turn while there is only one guest. A round of the loop takes 2 us and 430 bytes of
 * heap, too much for every 128 requests.
 */
const TURN_ALONE = 16 * TURN

/**
 * Returns the guest's turn on this loop, shared by all its rings. Each caller has to close it.
 * @param domid the guest, 0..32751
 */
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
  /** Rings that have more work, the longest-waiting one first. */
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
    const whole = guests.size > 1 ? TURN : TURN_ALONE
    if (this.#round !== round) {
      this.#round = round
      this.#left = whole
    }
    // Another guest may have come since this turn began.
    return Math.min(this.#left, whole)
  }

  /**
   * An event starts a new turn for the only guest. With several, others may have had events in the
   * same round.
   */
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
