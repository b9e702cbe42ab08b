/**
 * Delivers events to one thread: waits for the upcall word of the thread's attachment, then checks
 * its ports. Atomics.waitAsync wakes a thread wherever the sender runs. A round trip takes 52 us
 * between two threads and 3 us within one. (With a MessagePort it takes 49 us, but a hypercall
 * can't receive from a MessagePort.)
 */
import type { Attachment } from './attachment.ts'
import { UPCALL_IDLE } from './event-channels.ts'
import { KeepAlive } from './keep-alive.ts'

/** The callbacks of one thread's ports. */
export class Upcall {
  readonly #attachment: Attachment
  readonly #ports = new Map<number, () => void>()
  /** Keeps the process running, which waitAsync alone doesn't. */
  readonly #keepAlive: KeepAlive | undefined

  constructor(attachment: Attachment, o: { readonly keepsRunning: boolean }) {
    this.#attachment = attachment
    this.#keepAlive = o.keepsRunning ? new KeepAlive() : undefined
    this.#wait()
  }

  add(port: number, onEvent: () => void): void {
    this.#ports.set(port, onEvent)
    this.#keepAlive?.hold()
  }

  has(port: number): boolean {
    return this.#ports.has(port)
  }

  remove(port: number): void {
    if (this.#ports.delete(port)) this.#keepAlive?.release()
  }

  #wait(): void {
    const { state } = this.#attachment.hypervisor
    const wait = Atomics.waitAsync(
      state.words,
      state.attachments.index(this.#attachment.row, 'upcall'),
      UPCALL_IDLE,
    )
    if (wait.async) void wait.value.then(this.#wake)
    // The word is raised already. Let the event loop run first, or two busy domains would starve
    // it.
    else setImmediate(this.#wake)
  }

  readonly #wake = (): void => {
    if (this.#attachment.isClosed) return
    const events = this.#take()
    if (events === undefined) return this.#attachment.abandonAll()
    try {
      // A callback may close other ports, whose events must then not be delivered.
      for (const [port, onEvent] of events) if (this.#ports.get(port) === onEvent) onEvent()
    } finally {
      this.#wait()
    }
  }

  /**
   * Takes the events of all ports in one hypercall, in random order.
   * @returns undefined if the domain was destroyed
   */
  #take(): [port: number, onEvent: () => void][] | undefined {
    const { hypervisor, domid, row } = this.#attachment
    const { state, events } = hypervisor
    return hypervisor.locked(domid, () => {
      if (!state.isAlive(domid)) return undefined
      // Lower the word before checking ports, so that a later event raises it again.
      state.attachments.set(row, 'upcall', UPCALL_IDLE)
      return state.random.shuffled([...this.#ports].filter(([port]) => events.take(domid, port)))
    })
  }
}
