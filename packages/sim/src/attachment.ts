/** One thread's stand in a domain: what the ports of one SimDomain share. */
import { Holds, HypervisorClosedError } from '@xenkit/hypervisor'
import { type ArenaLimits, ArenaRoom } from './arena-room.ts'
import type { Hypervisor } from './hypervisor.ts'

/** Something that was opened through a SimDomain and is given back with it. */
export interface Opened {
  /** Gives it back as the kernel does for a process that ends: without complaint. */
  abandon(): void
  /** Pages of the arena, which can be held. */
  readonly isPages?: true
}

export class Attachment {
  readonly hypervisor: Hypervisor
  readonly domid: number
  /** In the table of attachments. */
  readonly row: number
  readonly room: ArenaRoom
  readonly #opened = new Set<Opened>()
  #closed = false
  /** See `Arena.hold`. */
  readonly holds = new Holds(() => {
    if (this.#closed) this.abandonAll()
  })

  constructor(hypervisor: Hypervisor, domid: number, arena?: ArenaLimits) {
    this.room = new ArenaRoom(arena)
    this.hypervisor = hypervisor
    this.domid = domid
    this.row = hypervisor.attach(domid)
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** @throws HypervisorClosedError if the domain was destroyed, or closed in this thread */
  hypercall<T>(call: () => T): T {
    if (this.#closed) {
      throw new HypervisorClosedError(`domain ${this.domid} was closed in this thread`, {
        domid: this.domid,
      })
    }
    return this.hypervisor.hypercall(this.domid, call)
  }

  /** @throws HypervisorClosedError as `hypercall` does */
  expectAlive(): void {
    this.hypercall(() => {})
  }

  release(call: () => void): void {
    this.hypervisor.release(this.domid, call)
  }

  opened(what: Opened): void {
    this.#opened.add(what)
  }

  forget(what: Opened): void {
    this.#opened.delete(what)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#abandon((what) => !(this.holds.exist && what.isPages))
    this.release(() => {
      this.hypervisor.state.attachments.set(this.row, 'owner', 0)
      // The thread waits for the row that it gives back.
      this.hypervisor.events.raise(this.row)
    })
  }

  /** Also when the domain was destroyed: then it gives back what this thread has of it. */
  abandonAll(): void {
    this.#abandon(() => true)
  }

  /** What was opened last may use the rest. */
  #abandon(goes: (what: Opened) => boolean): void {
    for (const what of [...this.#opened].toReversed()) if (goes(what)) what.abandon()
  }
}
