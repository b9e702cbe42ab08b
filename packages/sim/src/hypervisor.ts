/**
 * The hypervisor proper: its tables, the way into them, and what the end of a domain does to all of
 * them. Every thread has its own, over the same shared state.
 */
import { HypervisorClosedError, NotAvailableError } from '@xenkit/hypervisor'
import { EventChannels, UPCALL_IDLE } from './event-channels.ts'
import { Frames } from './frames.ts'
import { GrantTables } from './grant-tables.ts'
import { type MachineState, ownersOf } from './machine-state.ts'
import { Maptrack } from './maptrack.ts'
import { UnmapNotifications } from './unmap-notifications.ts'

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

  /** Makes `call` whole: no other thread is in a hypercall meanwhile. Calls don't nest. */
  locked<T>(domid: number, call: () => T): T {
    this.state.lock.acquire(domid)
    try {
      return call()
    } finally {
      this.state.lock.release(domid)
    }
  }

  /**
   * A hypercall of a domain.
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

  /** A hypercall that gives something back: there is nothing to do if the domain was destroyed. */
  release(domid: number, call: () => void): void {
    this.locked(domid, () => {
      if (this.state.isAlive(domid)) call()
    })
  }

  /** @returns the row of a new attachment of this thread to the domain. */
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
   * Ends a domain, also one whose threads still run or were terminated inside a hypercall. Its own
   * mappings and ports go at once; its pages stay as long as somebody maps them.
   * @param dead domains that are being destroyed, this one among them
   * @returns whether there was such a domain
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
      return true
    } finally {
      state.lock.release(0)
    }
  }
}
