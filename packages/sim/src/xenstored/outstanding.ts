/**
 * An outstanding request of an unprivileged domain: answered, but its reply or an event that it
 * caused isn't delivered yet. A domain may have only a limited number. A domain that changes
 * watched nodes must therefore wait until the watchers have taken the events, and can't fill their
 * queues.
 */
import type { Domain } from './domain.ts'

export class Outstanding {
  readonly #domain: Domain
  #messages = 0

  constructor(domain: Domain) {
    this.#domain = domain
  }

  /** A message of the request was queued. */
  queued(): this {
    if (this.#messages++ === 0) this.#domain.use('outstanding', 1)
    return this
  }

  /** That message was delivered or dropped. */
  gone(): void {
    if (--this.#messages === 0) this.#domain.use('outstanding', -1)
  }
}
