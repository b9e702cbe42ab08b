/** A simulated machine: its memory, its domains and their xenstored. */
import { expectInteger, PAGE_SIZE, UINT32_MAX } from '@xenkit/hypervisor'
import type { ArenaLimits } from './arena-room.ts'
import { makeDomainNodes, removeDomainNodes } from './domain-nodes.ts'
import { SimDomain } from './domain.ts'
import { Hypervisor } from './hypervisor.ts'
import { type MachineLimits, MachineState } from './machine-state.ts'
import { openResources } from './quiescence.ts'
import { makeXenstoreRing, RingXenstored } from './xenstore-ring.ts'
import type { XenstoreConnector, XenstoreStream } from './xenstore-port.ts'
import { Xenstored } from './xenstored/index.ts'

export interface MachineOptions extends Partial<MachineLimits> {
  /**
   * Decides numbers and orders that Xen leaves open. Default: random; errors of `assertQuiescent`
   * name it.
   */
  readonly seed?: number
}

export interface DomainOptions {
  readonly name?: string
  /**
   * How it reaches xenstored: `direct`ly, with any number of connections at once, or through the
   * one `ring` that a guest has, a page and an event channel. Default: direct.
   */
  readonly xenstore?: 'direct' | 'ring'
  /** How large the arena of each of its threads is. Default: as on Xen. */
  readonly arena?: ArenaLimits
}

/**
 * 64 MiB, of which the system commits what is touched; as many grants and ports as a domain with a
 * few busy disks and cards uses.
 */
const DEFAULT_LIMITS: MachineLimits = { pages: 16_384, grants: 8192, ports: 1024 }

/** A simulated machine, as `createMachine` makes it: memory, domains and their xenstored. */
export class SimMachine implements AsyncDisposable {
  /** For its `socket` listener, or for tests that want a look at the store. */
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
   * Makes a domain, with the nodes that a toolstack gives it. The first one is domain 0.
   * @throws ArenaFullError, EvtchnError or NotAvailableError if a ring can't be made: no page, no
   *   port in domain 0, no domain 0
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
   * Ends a domain in whatever it is doing, as `xl destroy` does: ports of others that led to it
   * turn unbound, its mappings are dropped, unmap notifications fire, and @releaseDomain tells
   * the rest. Its pages stay until nobody maps them. Idempotent.
   */
  destroyDomain(domid: number): void {
    this.#destroy(domid, [domid])
  }

  #destroy(domid: number, dead: readonly number[]): void {
    if (!this.#hypervisor.destroy(domid, dead)) return
    this.#rings?.leave(domid)
    if (domid !== 0) this.xenstored.releaseDomain(domid)
    removeDomainNodes(this.xenstored, domid)
  }

  /**
   * @throws Error that lists what is still open: mappings, grants, ports, pages, and connections to
   * xenstored with what they hold
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
    // Without the lock, which a thread that was terminated may still hold.
    const domids = this.#hypervisor.state.domids()
    for (const domid of domids) this.#destroy(domid, domids)
  }

  /**
   * `assertQuiescent`, then `close`: with `await using machine = createMachine()` a test can't
   * forget it.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    // What was closed in other threads is closed here after a turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve))
    try {
      this.assertQuiescent()
    } finally {
      await this.close()
    }
  }
}

/**
 * Makes a machine without domains: the first that `createDomain` makes is domain 0. Each domain
 * is a hypervisor to a program in it, as `openHypervisor` gives one on Xen.
 *
 * @throws TypeError, RangeError for a seed or limits out of range
 * @example
 * await using machine = createMachine() // fails where something is left open in the end
 * const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
 * await serveVbd(dom0, { store: memoryStore(2048), signal })
 */
export const createMachine = (o: MachineOptions = {}): SimMachine => new SimMachine(o)
