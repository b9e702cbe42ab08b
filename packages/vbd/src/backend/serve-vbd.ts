/** `serveVbd`: a block backend for every disk that a toolstack gives to this domain. */
import { type Hypervisor, NegotiationError, XenError } from '@xenkit/hypervisor'
import { type BackendConnection, type BackendDevice, type BackendDriver, type NodeValues, serveBackends } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import type { BlockStore } from '../block-store.ts'
import { MAX_QUEUES, MAX_RING_PAGE_ORDER, MAX_SEGMENTS, offerNodes, readFrontendRings, toolstackNodes } from '../nodes.ts'
import { vdevName } from '../vdev.ts'
import { connectRings } from './connect.ts'
import { DATA_PATHS, type DataPathKind } from './data-path.ts'
import { type DiskPolicy, describeDisk, limitsOf, sectorsOf } from './limits.ts'
import { VbdCounters, type VbdStats } from './stats.ts'

/** A disk that a toolstack asks to be served. */
export interface RequestedDisk {
  readonly frontendDomid: number
  readonly devid: number
  /** The toolstack's words for what to serve: `params` of the backend's directory. Empty if it has none. */
  readonly params: string
  /** The guest is to have it read-only, as every cdrom is. */
  readonly readOnly: boolean
  /** It is to be a cdrom drive. */
  readonly cdrom: boolean
}

/** A disk that is being served. */
export interface ServedDisk extends RequestedDisk {
  readonly stats: VbdStats
}

export type VbdEvent =
  | { readonly kind: 'offered' | 'connected' | 'closed' | 'removed'; readonly disk: ServedDisk; readonly error?: undefined }
  /**
   * The disk failed and is being closed; the store failed a request, after one that it did not; the disk
   * is left to other backends, since the store is in use.
   */
  | { readonly kind: 'failed' | 'store-failed' | 'declined'; readonly disk: ServedDisk; readonly error: unknown }

export interface ServeVbdOptions {
  /**
   * What to serve. A store serves the first disk that comes and leaves others to other backends for as
   * long as one of the two could write: two guests that write to one image destroy it. A function is
   * asked for each disk, and answers undefined for those it leaves to other backends. If it throws, or
   * gives a store that another disk has, the disk is closed for good.
   */
  readonly store: BlockStore | ((disk: RequestedDisk) => BlockStore | undefined | Promise<BlockStore | undefined>)
  /** Serve only disks that were plugged with this reservation. By default: only those without one. */
  readonly reservation?: string
  /** Ends the service: each guest is asked to let go of its disk, then what is in flight is settled. */
  readonly signal?: AbortSignal
  /**
   * How data is moved, default `copy`. With `map` and `persistent` a store works on the guest's own pages:
   * the guest can change what is being written, and see what is being read. A store that looks at data
   * twice (a checksum, a mirror) is not to be served so. `persistent` is used with frontends that can do
   * it, `copy` with others.
   */
  readonly dataPath?: DataPathKind
  /** What it throws is uncaught, and no concern of the disk's. */
  readonly onEvent?: (event: VbdEvent) => void
}

/** A store is already served, writable, to another disk. */
export class StoreInUseError extends XenError {
  constructor(message: string, details: { readonly user: RequestedDisk }) {
    super('ERR_XEN_STORE_IN_USE', message, details)
  }
}

/**
 * Serves disks until the signal aborts; without a signal, for ever. What goes wrong with one disk, its
 * guest's doing included, closes that disk, is told by `onEvent` and written to the disk's error node.
 *
 * @throws NotAvailableError when no xenstored answers
 * @throws XenstoreError when the connection to it is lost
 * @example
 * await using hv = await openHypervisor()
 * await serveVbd(hv, { store: memoryStore(2048) })
 */
export async function serveVbd(hv: Hypervisor, o: ServeVbdOptions): Promise<void> {
  const { store } = o
  if (typeof store !== 'function') sectorsOf(store)
  if (o.dataPath !== undefined && !DATA_PATHS.includes(o.dataPath)) throw new RangeError(`"dataPath" expected ${DATA_PATHS.join(' or ')}, got "${String(o.dataPath)}"`)
  const xs = await openXenstore(hv.xenstore)
  try {
    const driver = new VbdDriver(hv, xs, o)
    await serveBackends(xs, {
      domid: hv.domid,
      type: 'vbd',
      driver,
      ...(o.signal ? { signal: o.signal } : {}),
      ...(o.reservation === undefined ? {} : { reservation: o.reservation }),
      onEvent: (event) => {
        const disk = driver.diskOf(event.device)
        driver.tell(event.kind === 'failed' ? { kind: 'failed', disk, error: event.error } : { kind: event.kind, disk })
      },
    })
  } finally {
    xs.close()
  }
}

interface Disk extends ServedDisk {
  readonly stats: VbdCounters
  readonly policy: DiskPolicy
  /** What it serves; undefined until it has it, and for a disk that was refused it. */
  store?: BlockStore
}

class VbdDriver implements BackendDriver {
  readonly #hv: Hypervisor
  readonly #xs: XenstoreClient
  readonly #o: ServeVbdOptions
  readonly #disks = new Map<BackendDevice, Disk>()

  constructor(hv: Hypervisor, xs: XenstoreClient, o: ServeVbdOptions) {
    this.#hv = hv
    this.#xs = xs
    this.#o = o
  }

  diskOf(device: BackendDevice): ServedDisk {
    const { frontendDomid, devid } = device
    // Failures reach the listener even where the disk's own nodes could not be read.
    return this.#disks.get(device) ?? { frontendDomid, devid, params: '', readOnly: true, cdrom: false, stats: new VbdCounters() }
  }

  removed(device: BackendDevice): void {
    this.#disks.delete(device)
  }

  tell(event: VbdEvent): void {
    try {
      this.#o.onEvent?.(event)
    } catch (error) {
      // Uncaught, but not in the middle of what the event is about.
      queueMicrotask(() => {
        throw error
      })
    }
  }

  async offer(device: BackendDevice): Promise<NodeValues | undefined> {
    const { frontendDomid, devid } = device
    const nodes = await toolstackNodes.read(this.#xs, device.path)
    const cdrom = nodes['device-type'] === 'cdrom'
    const readOnly = cdrom || !nodes.mode.includes('w')
    const policy = { readOnly, cdrom, removable: nodes.removable, discard: nodes['discard-enable'] }
    const disk: Disk = { frontendDomid, devid, params: nodes.params, readOnly, cdrom, policy, stats: new VbdCounters() }
    // Before the store is asked for: if there is none, the listener hears of it.
    this.#disks.set(device, disk)
    if (!(await this.#findStore(disk))) {
      this.#disks.delete(device)
      return undefined
    }
    return offerNodes.format({ 'max-ring-page-order': MAX_RING_PAGE_ORDER, 'multi-queue-max-queues': MAX_QUEUES, 'feature-max-indirect-segments': MAX_SEGMENTS })
  }

  async connect(device: BackendDevice): Promise<BackendConnection> {
    const disk = this.#disks.get(device)
    const store = disk?.store
    if (!disk || !store) throw new TypeError(`"${device.path}" was not offered`)
    const { policy, stats } = disk
    const { dataPath = 'copy' } = this.#o
    const limits = limitsOf(store, policy)
    const resize = store.onResize?.(() => {
      try {
        limits.sectors = sectorsOf(store)
        device.publish(() => ({ sectors: String(limits.sectors) })).catch((error: unknown) => device.fail(error))
      } catch (error) {
        device.fail(error)
      }
    })
    const persistent = dataPath === 'persistent'
    let connection: Pick<BackendConnection, 'close'>
    try {
      const frontend = await readFrontendRings(this.#xs, device.frontendPath)
      if (limits.sectorMask > 0 && frontend.largeSectors) throw refusedUnits(device)
      connection = await connectRings(this.#hv, {
        domid: device.frontendDomid,
        frontend,
        store,
        limits,
        dataPath: persistent && !frontend.persistent ? 'copy' : dataPath,
        counters: stats,
        failed: (error) => device.fail(error),
        storeFailed: (error) => this.tell({ kind: 'store-failed', disk, error }),
      })
    } catch (error) {
      resize?.[Symbol.dispose]()
      throw error
    }
    return {
      // Asked for when they are written: the size may have changed by then.
      get nodes() {
        return describeDisk(store, { limits, policy, persistent })
      },
      async close() {
        resize?.[Symbol.dispose]()
        await connection.close()
      },
    }
  }

  /**
   * @returns whether there is a store for the disk, which then has it
   * @throws StoreInUseError if a function gave a store that another disk has
   */
  async #findStore(disk: Disk): Promise<boolean> {
    const store = typeof this.#o.store === 'function' ? await this.#o.store(disk) : this.#o.store
    if (store === undefined) return false
    limitsOf(store, disk.policy)
    const user = [...this.#disks.values()].find((other) => other.store === store && (isWritable(other, store) || isWritable(disk, store)))
    if (user) {
      const error = new StoreInUseError(`the store is in use by ${vdevName(user.devid)} of domain ${user.frontendDomid}: give each disk that can be written a store of its own`, { user })
      if (typeof this.#o.store === 'function') throw error
      this.tell({ kind: 'declined', disk, error })
      return false
    }
    disk.store = store
    return true
  }
}

/**
 * A frontend that counts in units of `sector-size` would have its data put elsewhere, with nothing to show
 * for it: the node says that it may be one. (blkif.h deprecates the node and has a backend ignore it.)
 */
function refusedUnits(device: BackendDevice): NegotiationError {
  const node = `${device.frontendPath}/feature-large-sector-size`
  return new NegotiationError(`node "${node}" holds "1", expected none or 0: the disk has sectors of 4096 bytes, and this backend counts in units of 512 nevertheless`, { node, value: '1', expected: '0' })
}

const isWritable = ({ readOnly }: RequestedDisk, store: BlockStore): boolean => store.write !== undefined && !readOnly
