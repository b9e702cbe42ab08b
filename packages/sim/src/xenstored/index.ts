/**
 * A xenstored in process: nodes with permissions, transactions, watches and quotas as in Xen's C
 * xenstored (docs/misc/xenstore.txt, tools/xenstored), for the requests that devices and their
 * toolstack need. Other requests answer ENOSYS.
 */
import type { ByteStreamReceiver } from '@xenkit/hypervisor'
import { DOMID_MAX, expectInteger, NotAvailableError } from '@xenkit/hypervisor'
import type { XsPermissions } from '@xenkit/wire'
import { Connection } from './connection.ts'
import { childOf } from './path.ts'
import { Store } from './store.ts'
import { removeTree } from './tree-operations.ts'
import { Watches } from './watches.ts'

export type { Connection } from './connection.ts'

const DOM0_ONLY: XsPermissions = { owner: 0, access: 'none', acl: [] }
const FIRST_NODES = ['/', '/tool', '/tool/xenstored', '@introduceDomain', '@releaseDomain']

export class Xenstored {
  readonly store = new Store()
  readonly watches = new Watches()
  readonly #introduced = new Set([0])
  readonly #connections = new Set<Connection>()

  constructor() {
    for (const path of FIRST_NODES) this.store.create(path, DOM0_ONLY)
  }

  /**
   * Opens a connection with the rights of a domain; 0 is privileged.
   * @throws NotAvailableError if the domain isn't introduced
   */
  connect(domid: number, receiver: ByteStreamReceiver): Connection {
    expectInteger('domid', domid, 0, DOMID_MAX)
    if (!this.#introduced.has(domid)) throw new NotAvailableError(`domain ${domid} isn't introduced to xenstored: call introduceDomain(${domid}) first`, { domid })
    const connection = new Connection(this, domid, receiver)
    this.#connections.add(connection)
    return connection
  }

  /**
   * Lets a domain connect. Its nodes are the toolstack's business: as with the real one, a
   * /local/domain/DOMID that the domain may use has to be made before.
   */
  introduceDomain(domid: number): void {
    expectInteger('domid', domid, 0, DOMID_MAX)
    if (this.#introduced.has(domid)) {
      for (const connection of this.#connectionsOf(domid)) connection.reset()
      return
    }
    this.#introduced.add(domid)
    this.watches.fireSpecial('@introduceDomain', domid, this.store)
  }

  isIntroduced(domid: number): boolean {
    return this.#introduced.has(domid)
  }

  /** The domain is gone: ends its connections, removes its nodes and what other nodes allow it. Idempotent. */
  releaseDomain(domid: number): void {
    expectInteger('domid', domid, 1, DOMID_MAX)
    if (!this.#introduced.delete(domid)) return
    for (const connection of this.#connectionsOf(domid)) connection.end(new Error(`domain ${domid} was released from xenstored`))
    for (const path of FIRST_NODES) if (path === '/' || path.startsWith('@')) this.#disown(path, domid)
    this.watches.fireSpecial('@releaseDomain', domid, this.store)
  }

  /** Connections, watches and transactions that clients have left open, one line each. */
  openResources(): string[] {
    return [...this.#connections].flatMap((connection) => connection.openResources())
  }

  /** A connection tells that it is over. */
  disconnected(connection: Connection): void {
    this.#connections.delete(connection)
  }

  #connectionsOf(domid: number): Connection[] {
    return [...this.#connections].filter((connection) => connection.domid === domid)
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
}
