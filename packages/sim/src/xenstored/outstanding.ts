/**
 * A request of an unprivileged domain, from its answer until that and every event that it caused
 * was delivered. A domain may have only so many: one that changes what others watch is held off
 * until they have heard of it, and so can't fill their memory.
 */
import type { Domain } from './domain.ts'

export class Outstanding {
  readonly #domain: Domain
  #messages = 0

  constructor(domain: Domain) {
    this.#domain = domain
  }

  /** A message that belongs to it waits. */
  queued(): this {
    if (this.#messages++ === 0) this.#domain.use('outstanding', 1)
    return this
  }

  /** That message was delivered, or thrown away. */
  gone(): void {
    if (--this.#messages === 0) this.#domain.use('outstanding', -1)
  }
}
