/**
 * Fair turns between the guests of an event loop. What is shared out is the loop's time, and who
 * shares it are guests: one with four disks of four rings has no more of it than one with a single
 * ring. A turn is counted, not timed: a request is 1, and each page of its data 1 more. Both take
 * the loop about a microsecond, so that nobody gets more by asking for more at once.
 *
 * Whoever has used up a turn waits until the loop has gone round, in which every other guest's
 * events are delivered and every other one that waits has its turn. So between a guest's event and
 * its answer each other one has at most two turns: what is left of one, and the next. One that is
 * busy all the time has one.
 */
import type { Hypervisor } from '@xenkit/hypervisor'

/** A request with 256 pages of data, or 128 requests of a page: a quarter of a millisecond. */
export const TURN = 257

/**
 * Of a guest with nobody else to wait for it: going round takes 2 us and 430 bytes of heap, too
 * much for every 128 requests.
 */
const TURN_ALONE = 16 * TURN

/** An event loop, of which a process or thread has one: its hypervisor stands for it. */
const loops = new WeakMap<Hypervisor, Loop>()

class Loop {
  /** By domid. */
  readonly guests = new Map<number, GuestTurn>()
  /** Goes up each time that the loop has gone round, where somebody waits for that. */
  round = 0
  #planned = false
  readonly #waiting: GuestTurn[] = []
  readonly #next = (): void => {
    this.#planned = false
    this.round = (this.round + 1) | 0
    // Who has to wait again after its turn does so for the next round.
    for (let guests = this.#waiting.length; guests > 0; guests--) this.#waiting.shift()?.run()
  }

  wait(guest: GuestTurn): void {
    this.#waiting.push(guest)
    if (this.#planned) return
    this.#planned = true
    setImmediate(this.#next)
  }
}

export class GuestTurn {
  readonly #loop: Loop
  readonly #domid: number
  #users = 0
  #round: number
  #left = 0
  #waits = false
  /** Rings that have more to do; who has waited longest is first. */
  readonly #rings: (() => void)[] = []

  /** That of a guest, for one more user, who closes it. */
  static open(hv: Hypervisor, domid: number): GuestTurn {
    const loop = loops.get(hv) ?? new Loop()
    loops.set(hv, loop)
    const turn = loop.guests.get(domid) ?? new GuestTurn(loop, domid)
    loop.guests.set(domid, turn)
    turn.#users++
    return turn
  }

  private constructor(loop: Loop, domid: number) {
    this.#loop = loop
    this.#domid = domid
    this.#round = loop.round - 1
  }

  /** What may be done before the loop goes round: all of a turn if it has since the last one. */
  get left(): number {
    const { round, guests } = this.#loop
    if (this.#round !== round) {
      this.#round = round
      this.#left = guests.size > 1 ? TURN : TURN_ALONE
    }
    return this.#left
  }

  /**
   * An event came, so the loop has gone round. Another may have come since: only who is alone
   * begins anew.
   */
  woken(): void {
    if (this.#loop.guests.size === 1) this.#left = TURN_ALONE
  }

  /** @param work what was done, 0 or more */
  spend(work: number): void {
    this.#left = Math.max(0, this.left - work)
  }

  /**
   * Calls `ring` once when the loop has gone round, or some time later where other rings of the
   * guest use up its turns.
   */
  wait(ring: () => void): void {
    this.#rings.push(ring)
    this.#wait()
  }

  /** For the loop: the guest has its turn. */
  run(): void {
    this.#waits = false
    for (let rings = this.#rings.length; rings > 0 && this.left > 0; rings--) {
      const ring = this.#rings.shift()
      ring?.()
      // It wants more than was left. So might the next, which would go behind it without having had
      // anything.
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
