/** An embedded xenstored for a test. The clients that it opens are closed with it. */
import type { XenstorePort } from '@xenkit/hypervisor'
import { Xenstored } from '@xenkit/sim'
import { type ConnectionOptions, openXenstore, type XenstoreClient } from '../../src/index.ts'

export class Store implements Disposable {
  readonly xenstored = new Xenstored()
  readonly #clients: XenstoreClient[] = []

  /** Introduces a domain and creates its home. */
  async introduce(domid: number): Promise<void> {
    this.xenstored.introduceDomain(domid)
    const dom0 = await this.open(0)
    await dom0.mkdir(`/local/domain/${domid}`)
    await dom0.setPerms(`/local/domain/${domid}`, { owner: domid, access: 'none', acl: [] })
    dom0.close()
  }

  port(domid: number): XenstorePort {
    return { connect: async (receiver) => this.xenstored.connect(domid, receiver) }
  }

  async open(domid: number, o: ConnectionOptions = {}): Promise<XenstoreClient> {
    const client = await openXenstore(this.port(domid), o)
    this.#clients.push(client)
    return client
  }

  /** Lists watches and transactions that clients have in xenstored, one per line. */
  get leftOpen(): string[] {
    return this.xenstored.openResources().filter((line) => line.includes(': '))
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients) client.close()
  }
}
