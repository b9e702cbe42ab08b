/**
 * An attachment connects one thread to a simulated domain. The `grants` and `evtchn` of the
 * thread's SimDomain object share it; each thread has an object and an attachment of its own.
 */
import { Holds, HypervisorClosedError } from '@xenkit/hypervisor'
import { type ArenaLimits, ArenaRoom } from './arena-room.ts'
import type { Hypervisor } from './hypervisor.ts'

/** A resource that was opened through a SimDomain, and ends when that is closed. */
export interface Opened {
  /** Ends the resource without errors, as the kernel does when a process ends. */
  abandon(): void
  /** True if the resource is pages of the arena, which `Arena.hold` keeps. */
  readonly isPages?: true
}

/** The resources that one thread has opened in a domain. */
export class Attachment {
  readonly hypervisor: Hypervisor
  readonly domid: number
  /** The attachment's row in the machine's table of attachments. */
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
   * Runs `call` as a hypercall of the domain.
   * @throws HypervisorClosedError if this attachment was closed or its domain destroyed
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
      // Raises the attachment's upcall word, on which this thread may be waiting, so that it stops
      // waiting.
      this.hypervisor.events.raise(this.row)
    })
  }

  /** Ends everything that this thread has opened. Also called when the domain was destroyed. */
  abandonAll(): void {
    this.#abandon(() => true)
  }

  /** Ends resources, the last opened first, because later ones may use earlier ones. */
  #abandon(goes: (what: Opened) => boolean): void {
    for (const what of [...this.#opened].toReversed()) if (goes(what)) what.abandon()
  }
}
