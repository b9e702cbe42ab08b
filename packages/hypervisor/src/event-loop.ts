/**
 * State that all devices on one event loop share, whichever packages they are from. An adapter
 * makes one for each hypervisor that it opens, and a thread opens its own: so a guest with a disk
 * and a card has one turn, and one ring at a time is polled. How turns are counted is
 * @xenkit/backend's matter; here they are kept and run.
 */

/** A guest's share of the event loop's time. Work is counted in units of about a microsecond. */
export interface GuestTurn {
  /** Work that may be done before the loop goes round. */
  readonly left: number
  /** Counts one more user. */
  open(): void
  /** Reports an event of the guest's: the loop has gone round. */
  woken(): void
  /** @param work done, 0 or more */
  spend(work: number): void
  /**
   * Calls `resume` once, in a later round of the loop: the next one, unless other rings of the same
   * guest use up its turns until then.
   */
  wait(resume: () => void): void
  /** Called by the loop, once a round at most: runs what waits. */
  run(): void
  /** Ends one use; the last one takes the guest off the loop. */
  close(): void
}

export class EventLoop {
  /** Guests with open rings, by domid. */
  readonly guests = new Map<number, GuestTurn>()
  /** The poll of the ring that had the latest event. */
  lastWoken: object | undefined
  #round = 0
  #planned = false
  readonly #waiting: GuestTurn[] = []
  readonly #next = (): void => {
    this.#planned = false
    this.#round = (this.#round + 1) | 0
    // A guest that has to wait again after its turn does so for the next round.
    for (let guests = this.#waiting.length; guests > 0; guests--) this.#waiting.shift()?.run()
  }

  /** Goes up each time that the loop has gone round, as long as somebody waits for that. */
  get round(): number {
    return this.#round
  }

  /** Runs the guest's turn once all others that wait already have had theirs. */
  wait(guest: GuestTurn): void {
    this.#waiting.push(guest)
    if (this.#planned) return
    this.#planned = true
    setImmediate(this.#next)
  }
}
