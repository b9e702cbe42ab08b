/**
 * State that all devices on one event loop share, whichever packages they are from. An adapter
 * creates one for each hypervisor, and a thread opens its own hypervisor. So a guest with a disk
 * and a card has a single turn, and only one ring at a time is polled. The package backend counts
 * the work of a turn; this class keeps and runs the turns.
 */

/** One guest's share of the event loop's time. Work is counted in units of about a microsecond. */
export interface GuestTurn {
  /** Work that the guest may still cause in this round of the loop. */
  readonly left: number
  /** Adds a user of the turn, such as a ring. */
  open(): void
  /** Reports an event of the guest, which shows that the loop has started another round. */
  woken(): void
  /**
   * Counts work against the guest's share.
   * @param work units done, 0 or more
   */
  spend(work: number): void
  /**
   * Calls `resume` once, in a later round of the loop: the next one, unless other rings of the same
   * guest use up its turns until then.
   */
  wait(resume: () => void): void
  /** Runs the callbacks that wait. Called by the loop, at most once per round. */
  run(): void
  /** Removes a user; the last one removes the guest from the loop. */
  close(): void
}

/** The turns of all guests on one event loop. */
export class EventLoop {
  /** Guests with open rings, by domid. */
  readonly guests = new Map<number, GuestTurn>()
  /** The poll of the ring that received the latest event. */
  lastWoken: object | undefined
  #round = 0
  #planned = false
  readonly #waiting: GuestTurn[] = []
  readonly #next = (): void => {
    this.#planned = false
    this.#round = (this.#round + 1) | 0
    // Only the guests that waited before this round: one that must wait again does so for the next
    // round.
    for (let guests = this.#waiting.length; guests > 0; guests--) this.#waiting.shift()?.run()
  }

  /** Number of rounds of the loop. It is only counted while a guest waits for the next round. */
  get round(): number {
    return this.#round
  }

  /** Runs the guest's turn in the next round, after those of the guests that wait already. */
  wait(guest: GuestTurn): void {
    this.#waiting.push(guest)
    if (this.#planned) return
    this.#planned = true
    setImmediate(this.#next)
  }
}
