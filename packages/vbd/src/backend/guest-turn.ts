/**
 * Fair turns between the guests of an event loop. What is shared out is the loop's time, and who shares it are
 * guests: one with four disks of four rings has no more of it than one with a single ring. A turn is counted in
 * pages of data, for which the loop takes about as long as for a request, so that nobody gets more by asking for
 * more at once; a clock isn't looked at.
 *
 * Whoever has used up a turn waits until the loop has gone round, in which every other guest's events are
 * delivered and every other one that waits has its turn. So between a guest's event and its answer each other one
 * has at most two turns: what is left of one, and the next. One that is busy all the time has one.
 */
import type { Hypervisor } from '@xenkit/hypervisor'
import { MAX_SEGMENTS } from '../nodes.ts'

/** Pages of a turn: the largest request, or 256 of a page, which take a quarter of a millisecond. */
export const TURN = MAX_SEGMENTS

/** Of a guest with nobody else to wait for it: going round takes 2 us and 430 bytes of heap, too much for every 256 requests. */
const TURN_ALONE = 4 * TURN

/** By domid, those with rings on the same loop. */
const guests = new WeakMap<Hypervisor, Map<number, GuestTurn>>()

export class GuestTurn {
  readonly #others: Map<number, GuestTurn>
  readonly #domid: number
  #users = 0
  #left = TURN
  #planned = false
  /** Turns of rings, of which each has one while there are pages left; who has waited longest is first. */
  readonly #waiting: (() => void)[] = []
  readonly #next = (): void => {
    this.#planned = false
    this.#left = this.#others.size > 1 ? TURN : TURN_ALONE
    for (let rings = this.#waiting.length; rings > 0 && this.#left > 0; rings--) this.#waiting.shift()?.()
    if (this.#waiting.length > 0) this.#plan()
  }

  /** That of a guest, for one more user, who closes it. */
  static open(hv: Hypervisor, domid: number): GuestTurn {
    const others = guests.get(hv) ?? new Map<number, GuestTurn>()
    guests.set(hv, others)
    const turn = others.get(domid) ?? new GuestTurn(others, domid)
    others.set(domid, turn)
    turn.#users++
    return turn
  }

  private constructor(others: Map<number, GuestTurn>, domid: number) {
    this.#others = others
    this.#domid = domid
  }

  /** Pages that may be moved before the loop goes round. */
  get left(): number {
    return this.#left
  }

  /** @param pages what was done, 0 or more; a request without data, or a refused one, is a page's work */
  spend(pages: number): void {
    this.#left = Math.max(0, this.#left - pages)
    // In good time: a guest with few requests must find its turn unused, not wait a round for itself.
    if (this.#left < TURN / 2) this.#plan()
  }

  /** Calls `turn` once, when the loop has gone round. */
  wait(turn: () => void): void {
    this.#waiting.push(turn)
    this.#plan()
  }

  close(): void {
    if (--this.#users === 0) this.#others.delete(this.#domid)
  }

  #plan(): void {
    if (this.#planned) return
    this.#planned = true
    setImmediate(this.#next)
  }
}
