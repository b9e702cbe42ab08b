/**
 * A xenstored in process: every request of xs_wire.h, with the semantics of Xen's C xenstored
 * (docs/misc/xenstore.txt, tools/xenstored), 4.17's where releases differ.
 *
 * Read next: requests.ts, what clients ask for; turns.ts, how they share the server.
 */
import { DOMID_MAX, expectInteger, NotAvailableError } from '@xenkit/hypervisor'
import type { XsPermissions } from '@xenkit/wire'
import { Connection, type XenstoreReceiver } from './connection.ts'
import { Domain } from './domain.ts'
import type { Outstanding } from './outstanding.ts'
import { childOf } from './path.ts'
import { DEFAULT_QUOTA, type Quota } from './quota.ts'
import { Store } from './store.ts'
import { removeTree } from './tree-operations.ts'
import { Turns } from './turns.ts'
import { Watches } from './watches.ts'

export type { Connection, XenstoreReceiver } from './connection.ts'

export interface XenstoredOptions {
  /** Is told what an administrator wants to know: clients that broke the protocol, domains that use too much. */
  readonly log?: (line: string) => void
}

const DOM0_ONLY: XsPermissions = { owner: 0, access: 'none', acl: [] }
const SPECIAL_NODES = ['@introduceDomain', '@releaseDomain']
const FIRST_NODES = ['/', '/tool', '/tool/xenstored', ...SPECIAL_NODES]

export class Xenstored {
  readonly store = new Store()
  readonly watches = new Watches()
  readonly turns = new Turns()
  /** That of domains to come. */
  readonly quota: Quota = { ...DEFAULT_QUOTA }
  readonly log: (line: string) => void
  /** Whether each request is logged. */
  isTracing = false
  /** The request that is being answered, if it counts. */
  cause: Outstanding | undefined
  readonly #domains = new Map<number, Domain>()

  constructor({ log = () => {} }: XenstoredOptions = {}) {
    this.log = log
    this.domain(0).isIntroduced = true
    for (const path of FIRST_NODES) this.store.create(path, DOM0_ONLY)
  }

  /**
   * Opens a connection with the rights of a domain; 0 is privileged.
   * @throws NotAvailableError if the domain isn't introduced
   */
  connect(domid: number, receiver: XenstoreReceiver): Connection {
    expectInteger('domid', domid, 0, DOMID_MAX)
    if (!this.isIntroduced(domid)) throw new NotAvailableError(`domain ${domid} isn't introduced to xenstored: call introduceDomain(${domid}) first`, { domid })
    return new Connection(this, this.domain(domid), receiver)
  }

  /**
   * Lets a domain connect, or its connections begin anew. Its nodes are the toolstack's business: as with
   * the real one, a /local/domain/DOMID that the domain may use has to be made before.
   */
  introduceDomain(domid: number): void {
    expectInteger('domid', domid, 0, DOMID_MAX)
    const domain = this.domain(domid)
    if (domain.isIntroduced) {
      // Those of domain 0 are sockets, to which this doesn't apply.
      if (!domain.isPrivileged) for (const connection of domain.connections) connection.reset()
      return
    }
    domain.isIntroduced = true
    this.watches.fireSpecial('@introduceDomain', domid, this.store)
  }

  isIntroduced(domid: number): boolean {
    return this.#domains.get(domid)?.isIntroduced === true
  }

  /** The domain is gone: ends its connections, removes its nodes and what other nodes allow it. Idempotent. */
  releaseDomain(domid: number): void {
    expectInteger('domid', domid, 1, DOMID_MAX)
    const domain = this.#domains.get(domid)
    if (!domain?.isIntroduced) return
    this.#domains.delete(domid)
    for (const connection of domain.connections) connection.end(new Error(`domain ${domid} was released from xenstored`))
    for (const other of this.#domains.values()) if (other.target === domid) other.target = undefined
    this.#disown('/', domid)
    for (const path of SPECIAL_NODES) this.#disownSpecial(path, domid)
    this.watches.fireSpecial('@releaseDomain', domid, this.store)
  }

  /** What is known of a domain, introduced or not. */
  domain(domid: number): Domain {
    let domain = this.#domains.get(domid)
    if (!domain) {
      domain = new Domain(domid, this)
      this.#domains.set(domid, domain)
    }
    return domain
  }

  get domains(): Iterable<Domain> {
    return this.#domains.values()
  }

  /** Connections, watches and transactions that clients have left open, one line each. */
  openResources(): string[] {
    return [...this.#domains.values()].flatMap(({ connections }) => [...connections].flatMap((connection) => connection.openResources()))
  }

  /** A later domain of the same id must not inherit anything. */
  #disown(path: string, domid: number): void {
    const node = this.store.get(path)
    if (!node) return
    if (node.perms.owner === domid) {
      removeTree({ tree: this.store, changed: (change) => this.watches.fire(change, this.store) }, path, node, 'subtree')
      return
    }
    const acl = node.perms.acl.filter((entry) => entry.domid !== domid)
    if (acl.length < node.perms.acl.length) this.store.setPerms(path, { ...node.perms, acl })
    for (const name of node.children) this.#disown(childOf(path, name), domid)
  }

  #disownSpecial(path: string, domid: number): void {
    const perms = this.store.get(path)?.perms
    if (!perms) return
    this.store.setPerms(path, { ...perms, owner: perms.owner === domid ? 0 : perms.owner, acl: perms.acl.filter((entry) => entry.domid !== domid) })
  }
}
