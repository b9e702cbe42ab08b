/**
 * An attachment connects one thread to a simulated domain. The `grants` and `evtchn` of the thread's
 * SimDomain object share it; each thread has an object and an attachment of its own.
 */
import { Holds, HypervisorClosedError } from '@xenkit/hypervisor'
import { type ArenaLimits, ArenaRoom } from './arena-room.ts'
import type { Hypervisor } from './hypervisor.ts'

/** A resource that was opened through a SimDomain, and ends with it. */
export interface Opened {
  /** Ends it as the kernel does when a process ends: without errors. */
  abandon(): void
  /** Set for pages of the arena, which `Arena.hold` keeps. */
  readonly isPages?: true
}

/** The resources that one thread has opened in a domain. */
export class Attachment {
  readonly hypervisor: Hypervisor
  readonly domid: number
  /** Its row in the table of attachments. */
  readonly row: number
  readonly room: ArenaRoom
  readonly #opened = new Set<Opened>()
  #closed = false
  /** Holds on the arena; see `Arena.hold`. */
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

  /**
   * Checks that the domain is open here and exists.
   * @throws HypervisorClosedError if it isn't or doesn't
   */
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
      // Wakes this thread, which waits on the row's upcall word, so that it stops waiting.
      this.hypervisor.events.raise(this.row)
    })
  }

  /** Ends everything that this thread has opened. Called too when the domain was destroyed. */
  abandonAll(): void {
    this.#abandon(() => true)
  }

  /** Last opened, first ended, because later resources may use earlier ones. */
  #abandon(goes: (what: Opened) => boolean): void {
    for (const what of [...this.#opened].toReversed()) if (goes(what)) what.abandon()
  }
}
