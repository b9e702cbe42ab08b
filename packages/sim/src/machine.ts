/** A simulated machine: memory, domains and their xenstored. */
import { expectInteger, PAGE_SIZE, UINT32_MAX } from '@xenkit/hypervisor'
import { NR_VIRQS } from '@xenkit/wire'
import type { ArenaLimits } from './arena-room.ts'
import { makeDomainNodes, removeDomainNodes } from './domain-nodes.ts'
import { SimDomain } from './domain.ts'
import { Hypervisor } from './hypervisor.ts'
import { type MachineLimits, MachineState } from './machine-state.ts'
import { openResources } from './quiescence.ts'
import { makeXenstoreRing, RingXenstored } from './xenstore-ring.ts'
import type { XenstoreConnector, XenstoreStream } from './xenstore-port.ts'
import { Xenstored } from './xenstored/index.ts'

/** Options of `createMachine`. */
export interface MachineOptions extends Partial<MachineLimits> {
  /**
   * Seed of the numbers and orders that Xen leaves open, 0..2^32-1. Default: random; errors of
   * `assertQuiescent` name it.
   */
  readonly seed?: number
}

/** Options of `SimMachine.createDomain`. */
export interface DomainOptions {
  readonly name?: string
  /**
   * How the domain reaches xenstored. `direct`: any number of connections at one time. `ring`: the
   * single ring of a guest, which is a page and an event channel. Default: `direct`.
   */
  readonly xenstore?: 'direct' | 'ring'
  /** Size of the arena of each of its threads. Default: as on Xen. */
  readonly arena?: ArenaLimits
}

/**
 * Default size of a machine. Its memory is 64 MiB, of which the system commits only touched pages.
 * Grants and ports suffice for a domain with a few busy disks and cards.
 */
const DEFAULT_LIMITS: MachineLimits = { pages: 16_384, grants: 8192, ports: 1024 }

/** A simulated machine, which `createMachine` creates. */
export class SimMachine implements AsyncDisposable {
  /** The machine's xenstored, for its socket listener or for tests that inspect the store. */
  readonly xenstored: Xenstored
  readonly seed: number
  readonly #hypervisor: Hypervisor
  #rings: RingXenstored | undefined

  constructor({ seed = Math.floor(Math.random() * 2 ** 32), ...limits }: MachineOptions) {
    expectInteger('seed', seed, 0, UINT32_MAX)
    const { pages, grants, ports } = { ...DEFAULT_LIMITS, ...limits }
    expectInteger('pages', pages, 2, 2 ** 32 / PAGE_SIZE)
    expectInteger('grants', grants, 16, 65_536)
    expectInteger('ports', ports, 2, 65_536)
    this.seed = seed
    const state = MachineState.create({ pages, grants, ports }, seed)
    this.#hypervisor = new Hypervisor(state)
    this.xenstored = new Xenstored({
      exists: (domid) => state.isAlive(domid),
      introduced: (domid, features) => this.#rings?.introduced(domid, features),
    })
  }

  /**
   * Creates a domain and the nodes that a toolstack gives it. The first one is domain 0.
   * @throws ArenaFullError if no page is left for its ring
   * @throws EvtchnError if domain 0 has no port left for its ring
   * @throws NotAvailableError if it needs a ring and there is no domain 0
   */
  createDomain({ name, xenstore = 'direct', arena }: DomainOptions = {}): SimDomain {
    const domid = this.#hypervisor.locked(0, () => this.#hypervisor.state.addDomain())
    if (xenstore === 'ring') this.#serveRing(domid)
    makeDomainNodes(this.xenstored, {
      domid,
      name: name ?? (domid === 0 ? 'Domain-0' : `sim-${domid}`),
    })
    this.xenstored.introduceDomain(domid)
    const direct: XenstoreConnector<XenstoreStream> = (receiver) =>
      this.xenstored.connect(domid, receiver)
    const connect = xenstore === 'ring' ? undefined : direct
    return new SimDomain(this.#hypervisor, domid, { connect, ...(arena ? { arena } : {}) })
  }

  #serveRing(domid: number): void {
    try {
      makeXenstoreRing(this.#hypervisor, domid)
      this.#rings ??= new RingXenstored(this.#hypervisor, this.xenstored)
      this.#rings.serve(domid)
    } catch (error) {
      this.#hypervisor.destroy(domid, [domid])
      throw error
    }
  }

  /**
   * Destroys a domain in the middle of whatever it does, as `xl destroy` does. Ports bound to the
   * domain's ports become unbound, its mappings end, unmap notifications and @releaseDomain fire.
   * Its pages stay until no domain maps them. Idempotent.
   */
  destroyDomain(domid: number): void {
    this.#destroy(domid, [domid])
  }

  /**
   * Sends a virtual interrupt to a domain, as Xen does. It is lost if the domain hasn't bound the
   * interrupt. VIRQ.DOM_EXC is also sent to domain 0 when another domain is destroyed.
   * @param o.virq a number of VIRQ in @xenkit/wire, 0..23
   * @throws HypervisorClosedError if the domain was destroyed
   */
  raiseVirq({ domid, virq }: { readonly domid: number; readonly virq: number }): void {
    expectInteger('virq', virq, 0, NR_VIRQS - 1)
    this.#hypervisor.hypercall(domid, () => this.#hypervisor.events.raiseVirq(domid, virq))
  }

  #destroy(domid: number, dead: readonly number[]): void {
    if (!this.#hypervisor.destroy(domid, dead)) return
    this.#rings?.leave(domid)
    if (domid !== 0) this.xenstored.releaseDomain(domid)
    removeDomainNodes(this.xenstored, domid)
  }

  /**
   * Checks that no domain has anything open.
   * @throws Error that lists open mappings, grants, ports and pages, and connections to xenstored
   * with their watches and transactions
   */
  assertQuiescent(): void {
    this.#rings?.look()
    const open = [
      ...this.#hypervisor.locked(0, () => openResources(this.#hypervisor)),
      ...this.xenstored.openResources(),
    ]
    if (open.length > 0) {
      throw new Error(`the machine (seed ${this.seed}) is not quiescent:\n  ${open.join('\n  ')}`)
    }
  }

  /** Destroys all domains. */
  async close(): Promise<void> {
    // Read the domids without the machine lock, which a terminated thread may still hold.
    const domids = this.#hypervisor.state.domids()
    for (const domid of domids) this.#destroy(domid, domids)
  }

  /**
   * Runs `assertQuiescent`, then `close`. So a test with `await using machine = createMachine()`
   * always checks for leaks.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    // Wait for a round of the event loop, because resources closed in other threads are closed here
    // only then.
    await new Promise((resolve) => setImmediate(resolve))
    try {
      this.assertQuiescent()
    } finally {
      await this.close()
    }
  }
}

/**
 * Creates a machine without domains; the first one that `createDomain` creates is domain 0. A
 * program uses a domain as the hypervisor that `openHypervisor` returns on Xen.
 *
 * @throws TypeError for a seed or limit that isn't an integer
 * @throws RangeError for a seed or limit out of range
 * @example
 * await using machine = createMachine() // throws if anything is left open at the end
 * const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
 * await serveVbd(dom0, { store: memoryStore(2048), signal })
 */
export const createMachine = (o: MachineOptions = {}): SimMachine => new SimMachine(o)
