/**
 * One interface for both sides of the comparison: Debian's xenstored as a process, and the embedded
 * xenstored.
 */
import type { ByteStream, ByteStreamReceiver, XenstorePort } from '@xenkit/hypervisor'
import { Xenstored } from '@xenkit/sim'
import type { Domain } from '../../../src/xenstored/domain.ts'
import { XenstoredProcess } from '../../../src/xenstored/xenstored-process.ts'

export interface Side {
  /** Returns a port with the rights of domain 0, or of a domain that was created and introduced. */
  port(domid: number): XenstorePort
  createDomain(domid: number): Promise<void>
  destroyDomain(domid: number): Promise<void>
  close(): Promise<void>
}

export class RealSide implements Side {
  readonly process: XenstoredProcess
  readonly #domains = new Map<number, Domain>()

  constructor(process: XenstoredProcess) {
    this.process = process
  }

  port(domid: number): XenstorePort {
    const domain = domid === 0 ? this.process : this.#domains.get(domid)
    if (!domain) throw new RangeError(`domain ${domid} wasn't created`)
    return domain
  }

  async createDomain(domid: number): Promise<void> {
    this.#domains.set(domid, await this.process.createDomain(domid))
  }

  destroyDomain(domid: number): Promise<void> {
    return this.process.destroyDomain(domid)
  }

  close(): Promise<void> {
    return this.process.close()
  }
}

export class OurSide implements Side {
  readonly #domids = new Set([0])
  readonly #xenstored = new Xenstored({ exists: (domid) => this.#domids.has(domid) })

  port(domid: number): XenstorePort {
    return {
      connect: async (receiver: ByteStreamReceiver): Promise<ByteStream> =>
        this.#xenstored.connect(domid, receiver),
    }
  }

  async createDomain(domid: number): Promise<void> {
    this.#domids.add(domid)
  }

  async destroyDomain(domid: number): Promise<void> {
    this.#domids.delete(domid)
    this.#xenstored.releaseDomain(domid)
  }

  async close(): Promise<void> {}
}
