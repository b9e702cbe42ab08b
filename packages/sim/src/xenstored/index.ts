/**
 * A xenstored within the process. It handles every request of xs_wire.h, with the semantics of
 * Xen's C xenstored (docs/misc/xenstore.txt, tools/xenstored). Where releases differ, it follows
 * 4.17.
 *
 * request.ts defines requests and handlers, server.ts the state, turns.ts how clients share the
 * server.
 */
import { DOMID_MAX, expectInteger, NotAvailableError } from '@xenkit/hypervisor'
import { Connection, type XenstoreReceiver } from './connection.ts'
import { Server } from './server.ts'

export type { Connection, XenstoreReceiver } from './connection.ts'
export type { XenstoredOptions } from './server.ts'

/** An in-process xenstored. */
export class Xenstored extends Server {
  /**
   * Opens a connection with the rights of a domain; domain 0 is privileged.
   * @throws NotAvailableError if the domain isn't introduced
   */
  connect(domid: number, receiver: XenstoreReceiver): Connection {
    expectInteger('domid', domid, 0, DOMID_MAX)
    const domain = this.introduced(domid)
    if (!domain) {
      throw new NotAvailableError(
        `domain ${domid} isn't introduced to xenstored: call introduceDomain(${domid}) first`,
        { domid },
      )
    }
    return new Connection(this, domain, receiver)
  }
}
