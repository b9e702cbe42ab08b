/**
 * The state of xenstored, and the introduction and release of domains. index.ts opens connections.
 */
import { DOMID_MAX, expectInteger, NotAvailableError, printable } from '@xenkit/hypervisor'
import type { Domain } from './domain.ts'
import { Domains } from './domains.ts'
import type { Outstanding } from './outstanding.ts'
import type { NodePermissions } from './permissions.ts'
import { DEFAULT_QUOTA, type Quota } from './quota.ts'
import { Store } from './store.ts'
import { removeOwned } from './tree-operations.ts'
import { Turns } from './turns.ts'
import { type SpecialPath, Watches } from './watches.ts'
import { WriteRate } from './write-rate.ts'

/** Options of `Xenstored`. */
export interface XenstoredOptions {
  /**
   * Whether a domain exists. Only existing domains can be introduced or named in permissions.
   * Default: all exist.
   */
  readonly exists?: (domid: number) => boolean
  /**
   * Called for each INTRODUCE, including repeated ones, with the features offered to the domain.
   */
  readonly introduced?: (domid: number, features: number) => void
  /**
   * Receives lines for an administrator, about clients that broke the protocol and domains that use
   * too much.
   */
  readonly log?: (line: string) => void
}

const DOM0_ONLY: NodePermissions = { owner: 0, access: 'none', acl: [] }

/** The state of xenstored that all connections share. */
export class Server {
  /** Quota of new domains. */
  readonly quota: Quota = { ...DEFAULT_QUOTA }
  readonly domains: Domains
  readonly dom0: Domain
  readonly store: Store
  /** Permissions of the special paths, which aren't nodes. */
  readonly special = new Map<string, NodePermissions>([
    ['@introduceDomain', DOM0_ONLY],
    ['@releaseDomain', DOM0_ONLY],
  ])
  readonly watches = new Watches()
  readonly turns = new Turns()
  readonly writeRate: WriteRate
  readonly log: (line: string) => void
  readonly #introduced: (domid: number, features: number) => void
  /** Whether every request is logged. */
  isTracing = false
  /** The request that is being answered now, if an unprivileged domain sent it. */
  cause: Outstanding | undefined

  constructor({
    exists = () => true,
    introduced = () => {},
    log = () => {},
  }: XenstoredOptions = {}) {
    this.log = (line) => log(printable(line))
    this.#introduced = introduced
    this.domains = new Domains({ exists, quota: this.quota, log: this.log })
    this.dom0 = this.domains.make(0)
    this.dom0.isIntroduced = true
    this.writeRate = new WriteRate(log)
    this.writeRate.add(this.dom0)
    this.store = new Store(this.domains)
    const value = new Uint8Array()
    for (const [path, children] of [
      ['/', 'tool\0'],
      ['/tool', 'xenstored\0'],
      ['/tool/xenstored', ''],
    ] as const) {
      this.store.put(path, { value, perms: DOM0_ONLY, children })
      this.store.count(0, 1)
    }
  }

  /**
   * Introduces a domain, which may then connect. If the domain is introduced already, resets its
   * connections. Creates no nodes: as with C xenstored, the toolstack first creates a
   * /local/domain/DOMID that the domain may use.
   * @throws NotAvailableError if there is no such domain
   */
  introduceDomain(domid: number): void {
    expectInteger('domid', domid, 0, DOMID_MAX)
    const domain = this.domains.know(domid)
    if (!domain) throw new NotAvailableError(`there is no domain ${domid}`, { domid })
    this.#introduced(domid, domain.features)
    if (domain.isIntroduced) {
      // Domain 0's connections are sockets, which aren't reset.
      if (!domain.isPrivileged) for (const connection of domain.connections) connection.reset()
      return
    }
    domain.isIntroduced = true
    this.writeRate.add(domain)
    this.#fireSpecial('@introduceDomain', domid)
  }

  /** Returns the domain if it is introduced. */
  introduced(domid: number): Domain | undefined {
    const domain = this.domains.get(domid)
    return domain?.isIntroduced ? domain : undefined
  }

  /**
   * Releases a domain that is gone, or that xenstored must no longer serve. Ends its connections,
   * removes its nodes, and voids permissions that name it, so that a later domain can't use them.
   * Idempotent.
   */
  releaseDomain(domid: number): void {
    expectInteger('domid', domid, 1, DOMID_MAX)
    const domain = this.domains.get(domid)
    if (!domain) return
    for (const connection of domain.connections) {
      connection.end(new Error(`domain ${domid} was released from xenstored`))
    }
    for (const other of this.domains) if (other.target === domid) other.target = undefined
    removeOwned(
      { tree: this.store, changed: (change) => this.watches.fire(change, this.store) },
      domain,
    )
    for (const [path, perms] of this.special) this.special.set(path, withoutDomain(perms, domid))
    this.writeRate.remove(domain)
    this.domains.forget(domid)
    if (domain.isIntroduced) this.#fireSpecial('@releaseDomain', domid)
  }

  /** Lists connections, watches and transactions that clients have open, one per line. */
  openResources(): string[] {
    return [...this.domains].flatMap(({ connections }) =>
      [...connections].flatMap((connection) => connection.openResources()),
    )
  }

  #fireSpecial(special: SpecialPath, domid: number): void {
    this.watches.fireSpecial(special, domid, this.special.get(special) ?? DOM0_ONLY)
  }
}

const withoutDomain = (
  { owner, access, acl }: NodePermissions,
  domid: number,
): NodePermissions => ({
  owner: owner === domid ? 0 : owner,
  access,
  acl: acl.filter((entry) => entry.domid !== domid),
})
