/**
 * The domains that xenstored knows: domain 0, those that were introduced, and those that own a node
 * or are named in its permissions. Domids come round again: a domain has nothing of what was said
 * of an earlier one.
 */
import { DOMID_MAX } from '@xenkit/hypervisor'
import { DOMID_ANY } from '@xenkit/wire'
import { Domain } from './domain.ts'
import type { Quota } from './quota.ts'

export interface DomainsOptions {
  /** Whether there is such a domain, as far as the hypervisor knows. */
  exists(domid: number): boolean
  /** That of domains to come. */
  readonly quota: Quota
  readonly log: (line: string) => void
}

export class Domains implements Iterable<Domain> {
  /** Counts the changes of all nodes. */
  generation = 0
  readonly #o: DomainsOptions
  readonly #known = new Map<number, Domain>()

  constructor(o: DomainsOptions) {
    this.#o = o
  }

  /** The domain, if it is known. */
  get(domid: number): Domain | undefined {
    return this.#known.get(domid)
  }

  /** The domain, which is known from now on if it exists. */
  know(domid: number): Domain | undefined {
    const known = this.#known.get(domid)
    if (known || domid < 0 || domid > DOMID_MAX || !this.#o.exists(domid)) return known
    return this.make(domid)
  }

  /** Domain 0 is known before the hypervisor is asked. */
  make(domid: number): Domain {
    const domain = new Domain(domid, {
      quota: this.#o.quota,
      log: this.#o.log,
      generation: this.generation,
    })
    this.#known.set(domid, domain)
    return domain
  }

  forget(domid: number): void {
    this.#known.delete(domid)
  }

  /** Whether what a node of that generation says of a domid is said of today's domain. */
  isMeant(domid: number, generation: number): boolean {
    if (domid === DOMID_ANY) return true
    const domain = this.#known.get(domid)
    return domain !== undefined && domain.generation <= generation
  }

  [Symbol.iterator](): Iterator<Domain> {
    return this.#known.values()
  }
}
