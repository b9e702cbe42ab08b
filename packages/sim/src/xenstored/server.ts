/** The state of xenstored, and how domains come and go. index.ts opens connections to it. */
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

export interface XenstoredOptions {
  /**
   * Whether there is a domain of that domid, for xenstored to be introduced to or for permissions
   * to name. Default: there might be.
   */
  readonly exists?: (domid: number) => boolean
  /** Called for each INTRODUCE, a repeated one included, with what the domain is offered. */
  readonly introduced?: (domid: number, features: number) => void
  /**
   * Is told what an administrator wants to know: clients that broke the protocol, domains that use
   * too much.
   */
  readonly log?: (line: string) => void
}

const DOM0_ONLY: NodePermissions = { owner: 0, access: 'none', acl: [] }

export class Server {
  /** That of domains to come. */
  readonly quota: Quota = { ...DEFAULT_QUOTA }
  readonly domains: Domains
  readonly dom0: Domain
  readonly store: Store
  /** Permissions of what isn't a node. */
  readonly special = new Map<string, NodePermissions>([
    ['@introduceDomain', DOM0_ONLY],
    ['@releaseDomain', DOM0_ONLY],
  ])
  readonly watches = new Watches()
  readonly turns = new Turns()
  readonly writeRate: WriteRate
  readonly log: (line: string) => void
  readonly #introduced: (domid: number, features: number) => void
  /** Whether each request is logged. */
  isTracing = false
  /** The request that is being answered, if it counts. */
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
   * Lets a domain connect, or its connections begin anew. Its nodes are the toolstack's business:
   * as with the real one, a /local/domain/DOMID that the domain may use has to be made before.
   * @throws NotAvailableError if there is no such domain
   */
  introduceDomain(domid: number): void {
    expectInteger('domid', domid, 0, DOMID_MAX)
    const domain = this.domains.know(domid)
    if (!domain) throw new NotAvailableError(`there is no domain ${domid}`, { domid })
    this.#introduced(domid, domain.features)
    if (domain.isIntroduced) {
      // Those of domain 0 are sockets, to which this doesn't apply.
      if (!domain.isPrivileged) for (const connection of domain.connections) connection.reset()
      return
    }
    domain.isIntroduced = true
    this.writeRate.add(domain)
    this.#fireSpecial('@introduceDomain', domid)
  }

  /** The domain, if it may connect. */
  introduced(domid: number): Domain | undefined {
    const domain = this.domains.get(domid)
    return domain?.isIntroduced ? domain : undefined
  }

  /**
   * The domain is gone, or xenstored is to have no more to do with it: ends its connections and
   * removes its nodes. What other nodes allow it is nothing that a later one could use. Idempotent.
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

  /** Connections, watches and transactions that clients have left open, one line each. */
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
