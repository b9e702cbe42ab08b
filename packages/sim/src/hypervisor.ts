/**
 * The hypervisor itself: its tables, hypercalls, and what destroying a domain does to all tables.
 * Every thread has its own `Hypervisor` object over the same shared state.
 */
import { HypervisorClosedError, NotAvailableError } from '@xenkit/hypervisor'
import { VIRQ } from '@xenkit/wire'
import { EventChannels, UPCALL_IDLE } from './event-channels.ts'
import { Frames } from './frames.ts'
import { GrantTables } from './grant-tables.ts'
import { type MachineState, ownersOf } from './machine-state.ts'
import { Maptrack } from './maptrack.ts'
import { UnmapNotifications } from './unmap-notifications.ts'

/** The tables of a machine, for one thread. */
export class Hypervisor {
  readonly state: MachineState
  readonly frames: Frames
  readonly grants: GrantTables
  readonly maptrack: Maptrack
  readonly events: EventChannels
  readonly notifications: UnmapNotifications

  constructor(state: MachineState) {
    this.state = state
    this.frames = new Frames(this.state)
    this.grants = new GrantTables(this.state, this.frames)
    this.maptrack = new Maptrack(this.state, this.frames, this.grants)
    this.events = new EventChannels(this.state)
    this.notifications = new UnmapNotifications(this.state, this.events)
  }

  /**
   * Runs `call` under the machine lock, so that no other thread is in a hypercall at the same time.
   * Calls don't nest.
   */
  locked<T>(domid: number, call: () => T): T {
    this.state.lock.acquire(domid)
    try {
      return call()
    } finally {
      this.state.lock.release(domid)
    }
  }

  /**
   * Runs `call` as a hypercall of a domain.
   * @throws HypervisorClosedError if the domain was destroyed
   */
  hypercall<T>(domid: number, call: () => T): T {
    return this.locked(domid, () => {
      if (!this.state.isAlive(domid)) {
        throw new HypervisorClosedError(`domain ${domid} was destroyed`, { domid })
      }
      return call()
    })
  }

  /** Runs a hypercall that releases something. Does nothing if the domain was destroyed. */
  release(domid: number, call: () => void): void {
    this.locked(domid, () => {
      if (this.state.isAlive(domid)) call()
    })
  }

  /**
   * Attaches this thread to a domain.
   * @returns the attachment's row in the table of attachments
   * @throws NotAvailableError when all rows are in use
   * @throws HypervisorClosedError if the domain was destroyed
   */
  attach(domid: number): number {
    return this.hypercall(domid, () => {
      const { attachments } = this.state
      for (let row = 0; row < attachments.rows; row++) {
        if (attachments.get(row, 'owner') !== 0) continue
        attachments.set(row, 'upcall', UPCALL_IDLE)
        attachments.set(row, 'owner', domid + 1)
        return row
      }
      throw new NotAvailableError(
        `all ${attachments.rows} attachments of threads to domains are in use`,
        { domid },
      )
    })
  }

  /**
   * Ends a domain, even if its threads still run or were terminated inside a hypercall. Its
   * mappings and ports end at once. Its pages stay until nobody maps them.
   * @param dead all domains being destroyed, including this one
   * @returns whether the domain existed
   */
  destroy(domid: number, dead: readonly number[]): boolean {
    const { state } = this
    const broken = state.lock.acquire(0, dead)
    try {
      if (broken) this.maptrack.recount()
      if (!state.isAlive(domid)) return false
      this.notifications.fireAllOf(domid)
      for (const handle of this.maptrack.handlesOf(domid)) this.maptrack.unmap(handle)
      this.events.closeAllOf(domid)
      this.frames.freeAllOf(domid)
      this.grants.clear(domid)
      state.domains.clear(state.slot(domid))
      for (const [row, owner] of ownersOf(state.attachments)) {
        if (owner !== domid) continue
        state.attachments.set(row, 'owner', 0)
        this.events.raise(row)
      }
      this.events.raiseVirq(0, VIRQ.DOM_EXC)
      return true
    } finally {
      state.lock.release(0)
    }
  }
}
