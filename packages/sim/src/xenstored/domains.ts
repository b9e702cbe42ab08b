/**
 * The domains that xenstored knows: domain 0, introduced domains, and domains that own a node or
 * are named in its permissions. Domids are reused on Xen: a domain gets no rights that named an
 * earlier one.
 */
import { DOMID_MAX } from '@xenkit/hypervisor'
import { DOMID_ANY } from '@xenkit/wire'
import { Domain } from './domain.ts'
import type { Quota } from './quota.ts'

/** Options of `Domains`. */
export interface DomainsOptions {
  /** Whether the hypervisor has such a domain. */
  exists(domid: number): boolean
  /** Quota of new domains. */
  readonly quota: Quota
  readonly log: (line: string) => void
}

export class Domains implements Iterable<Domain> {
  /** Number of changes of nodes so far. */
  generation = 0
  readonly #o: DomainsOptions
  readonly #known = new Map<number, Domain>()

  constructor(o: DomainsOptions) {
    this.#o = o
  }

  /** Returns the domain if it is known. */
  get(domid: number): Domain | undefined {
    return this.#known.get(domid)
  }

  /** Returns the domain, and makes it known if it exists. */
  know(domid: number): Domain | undefined {
    const known = this.#known.get(domid)
    if (known || domid < 0 || domid > DOMID_MAX || !this.#o.exists(domid)) return known
    return this.make(domid)
  }

  /** Makes a domain known without asking the hypervisor, as domain 0 at the start. */
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

  /** Whether a domid in permissions of the given generation means the present domain. */
  isMeant(domid: number, generation: number): boolean {
    if (domid === DOMID_ANY) return true
    const domain = this.#known.get(domid)
    return domain !== undefined && domain.generation <= generation
  }

  [Symbol.iterator](): Iterator<Domain> {
    return this.#known.values()
  }
}
