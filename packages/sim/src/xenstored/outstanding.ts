/**
 * A request of an unprivileged domain that is outstanding: it is answered, but its reply or an
 * event that it caused isn't delivered yet. Each domain may have only a limited number of these. So
 * a domain that changes watched nodes must wait until the watchers have taken the events, and can't
 * fill their queues.
 */
import type { Domain } from './domain.ts'

export class Outstanding {
  readonly #domain: Domain
  #messages = 0

  constructor(domain: Domain) {
    this.#domain = domain
  }

  /** Counts a message of the request that was queued. */
  queued(): this {
    if (this.#messages++ === 0) this.#domain.use('outstanding', 1)
    return this
  }

  /** Counts a message of the request that was delivered or dropped. */
  gone(): void {
    if (--this.#messages === 0) this.#domain.use('outstanding', -1)
  }
}
