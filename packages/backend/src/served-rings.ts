/** The rings of a connected device, from their attachment to the end of all that they use. */
import { type Arena, closeEach, failuresOf, firstOf, Owner } from '@xenkit/hypervisor'
import type { CloseOptions } from '@xenkit/xenbus'
import { unlessAborted } from './abandoned.ts'
import type { RingServer } from './ring-server.ts'

/** What the rings of a device need besides themselves. */
export interface ServedRingsOptions {
  readonly arena: Arena
  /** Aborts when rows in flight are waited for no longer. */
  readonly abandon: AbortSignal
  /** Called with what goes wrong after `close` has ended. */
  readonly failed: (error: unknown) => void
}

/**
 * Rings of one device with all that was opened for them. Add servers, and own what is opened in
 * `rings` or `memory`; `close` ends everything in the right order.
 */
export class ServedRings {
  readonly servers: RingServer[] = []
  /** What reaches the rings: ports, mappings. It is closed as soon as all servers have settled. */
  readonly rings = new Owner()
  /** Memory that rows in flight use. It is closed once none is. */
  readonly memory = new Owner()
  /** Resolves once nothing is held: when it is closed, or later if rows were abandoned. */
  readonly released: Promise<void>
  readonly #o: ServedRingsOptions
  #tellReleased = (): void => {}

  constructor(o: ServedRingsOptions) {
    this.#o = o
    this.released = new Promise((resolve) => (this.#tellReleased = resolve))
  }

  /**
   * Takes what the rings hold. The frontend may have sent messages, and their event, before there
   * was a port to receive it.
   */
  begin(): void {
    for (const server of this.servers) server.turn()
  }

  /** Closes all of it because of `error`. @returns the error to throw */
  async closeAfter(error: unknown): Promise<unknown> {
    return firstOf([error, ...(await failuresOf([this.close({ frontend: 'gone' })]))])
  }

  /**
   * Settles what is in flight, then closes everything. What `abandon` cuts off keeps its memory
   * until it completes, whatever becomes of the hypervisor.
   * @throws the reason of `abandon`, or the first error of what fails to close
   */
  async close(how: CloseOptions): Promise<void> {
    const settling = failuresOf(this.servers.map((server) => server.settle(how)))
    const abandoned = await this.#untilAbandoned(settling)
    const errors = abandoned ? [abandoned.reason] : await settling
    errors.push(...closeEach([this.rings]))
    if (abandoned) this.#releaseLate(settling)
    else errors.push(...this.#release())
    if (errors.length > 0) throw firstOf(errors)
  }

  /** @returns why rows are still in flight that are waited for no longer, if there are such rows */
  async #untilAbandoned(
    settling: Promise<unknown>,
  ): Promise<{ readonly reason: unknown } | undefined> {
    try {
      await unlessAborted(settling, this.#o.abandon)
      return undefined
    } catch (reason) {
      for (const server of this.servers) server.abandon()
      return this.servers.some(({ inFlight }) => inFlight > 0) ? { reason } : undefined
    }
  }

  #release(): unknown[] {
    const errors = closeEach([this.memory])
    this.#tellReleased()
    return errors
  }

  /** Whoever has the rows may still write to their memory, or read there. */
  #releaseLate(settling: Promise<unknown[]>): void {
    const hold = this.#o.arena.hold()
    void settling.then((failures) => {
      const errors = [...failures, ...this.#release()]
      hold[Symbol.dispose]()
      if (errors.length > 0) this.#o.failed(firstOf(errors))
    })
  }
}
