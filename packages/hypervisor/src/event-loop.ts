/**
 * State that all devices on one event loop share, whichever packages they are from. An adapter
 * creates an `EventLoop` for each hypervisor, and each thread opens its own hypervisor. So a guest
 * with a disk and a network card has one share of the loop's time, and only one ring at a time is
 * polled. The package backend counts the work; this class decides when each guest goes on.
 */

/** One guest's share of the event loop's time. Work is counted in units of about a microsecond. */
export interface GuestTurn {
  /** Units of work that the guest may still cause in this round of the event loop. */
  readonly left: number
  /** Adds a user of this share, such as a ring of the guest. */
  open(): void
  /**
   * Reports an event of the guest, which shows that another round of the event loop has started.
   */
  woken(): void
  /**
   * Counts work against the guest's share.
   * @param work units done, 0 or more
   */
  spend(work: number): void
  /**
   * Calls `resume` once, in a later round of the event loop. That is the next round, unless other
   * rings of the same guest use up its share first.
   */
  wait(resume: () => void): void
  /** Runs the callbacks passed to `wait`. Called by the event loop, at most once per round. */
  run(): void
  /** Removes a user of this share. After the last one, the guest is removed from the loop. */
  close(): void
}

/** The guests served on one event loop, and the order in which waiting guests go on. */
export class EventLoop {
  /** The shares of guests with open rings, by domid. */
  readonly guests = new Map<number, GuestTurn>()
  /** The adaptive poll of the ring that received the latest event; only this ring is polled. */
  lastWoken: object | undefined
  #round = 0
  #planned = false
  readonly #waiting: GuestTurn[] = []
  readonly #next = (): void => {
    this.#planned = false
    this.#round = (this.#round + 1) | 0
    // Run only guests that waited before this round. A guest that waits again goes on in the next
    // one.
    for (let guests = this.#waiting.length; guests > 0; guests--) this.#waiting.shift()?.run()
  }

  /** Number of rounds of the event loop so far. Rounds in which no guest waits aren't counted. */
  get round(): number {
    return this.#round
  }

  /** Calls the guest's `run` in the next round, after the guests that wait already. */
  wait(guest: GuestTurn): void {
    this.#waiting.push(guest)
    if (this.#planned) return
    this.#planned = true
    setImmediate(this.#next)
  }
}
