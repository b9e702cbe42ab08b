/** `serveVbd`: a block backend for every disk that a toolstack gives to this domain. */
import { type Hypervisor, XenError, expectInteger } from '@xenkit/hypervisor'
import { type BackendConnection, type BackendDevice, type BackendDriver, type NodeValues, serveBackends } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { type BlockStore, MAX_SECTORS } from '../block-store.ts'
import { MAX_RING_PAGE_ORDER, describeDisk, offerNodes, readFrontendRing, toolstackNodes } from '../nodes.ts'
import { vdevName } from '../vdev.ts'
import { connectRing } from './connect.ts'
import { VbdCounters, type VbdStats } from './stats.ts'

/** A disk that a toolstack asks to be served. */
export interface RequestedDisk {
  readonly frontendDomid: number
  readonly devid: number
  /** The toolstack's words for what to serve: `params` of the backend's directory. Empty if it has none. */
  readonly params: string
  /** The guest is to have it read-only. */
  readonly readOnly: boolean
}

/** A disk that is being served. */
export interface ServedDisk extends RequestedDisk {
  readonly stats: VbdStats
}

export type VbdEvent =
  | { readonly kind: 'offered' | 'connected' | 'closed' | 'removed'; readonly disk: ServedDisk; readonly error?: undefined }
  /** The disk failed and is being closed; or the store failed a request, after one that it did not. */
  | { readonly kind: 'failed' | 'store-failed'; readonly disk: ServedDisk; readonly error: unknown }

export interface ServeVbdOptions {
  /**
   * What to serve. A store serves the first disk that comes, and no second one beside it if it can be
   * written: two guests that write to one image destroy it. A function is asked for each disk, and
   * answers undefined for those it leaves to other backends.
   */
  readonly store: BlockStore | ((disk: RequestedDisk) => BlockStore | undefined | Promise<BlockStore | undefined>)
  /** Ends the service: each guest is asked to let go of its disk, then what is in flight is settled. */
  readonly signal?: AbortSignal
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
  if (typeof store !== 'function') expectInteger('store.sectors', store.sectors, 1, MAX_SECTORS)
  const xs = await openXenstore(hv.xenstore)
  try {
    const driver = new VbdDriver(hv, xs, o)
    await serveBackends(xs, {
      domid: hv.domid,
      type: 'vbd',
      driver,
      ...(o.signal ? { signal: o.signal } : {}),
      onEvent: (event) => {
        const disk = driver.diskOf(event.device)
        if (disk) o.onEvent?.(event.kind === 'failed' ? { kind: 'failed', disk, error: event.error } : { kind: event.kind, disk })
      },
    })
  } finally {
    xs.close()
  }
}

interface Disk extends ServedDisk {
  readonly stats: VbdCounters
  readonly store: BlockStore
  readonly writable: boolean
  /** False for a disk that was refused the store. */
  readonly usesStore: boolean
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

  diskOf(device: BackendDevice): ServedDisk | undefined {
    return this.#disks.get(device)
  }

  removed(device: BackendDevice): void {
    this.#disks.delete(device)
  }

  async offer(device: BackendDevice): Promise<NodeValues | undefined> {
    const { frontendDomid, devid } = device
    const { params, mode } = await toolstackNodes.read(this.#xs, device.path)
    const asked: RequestedDisk = { frontendDomid, devid, params, readOnly: !mode.includes('w') }
    const store = typeof this.#o.store === 'function' ? await this.#o.store(asked) : this.#o.store
    if (store === undefined) return undefined
    const writable = store.write !== undefined && !asked.readOnly
    const user = this.#conflicting(store, writable)
    this.#disks.set(device, { ...asked, store, writable, stats: new VbdCounters(), usesStore: user === undefined })
    expectInteger('store.sectors', store.sectors, 1, MAX_SECTORS)
    if (user) throw new StoreInUseError(`the store is in use by ${vdevName(user.devid)} of domain ${user.frontendDomid}: give each disk that can be written a store of its own`, { user })
    return offerNodes.format({ 'max-ring-page-order': MAX_RING_PAGE_ORDER })
  }

  async connect(device: BackendDevice): Promise<BackendConnection> {
    const disk = this.#disks.get(device)
    if (!disk) throw new TypeError(`"${device.path}" was not offered`)
    const connection = await connectRing(this.#hv, {
      domid: device.frontendDomid,
      ring: await readFrontendRing(this.#xs, device.frontendPath),
      store: disk.store,
      writable: disk.writable,
      counters: disk.stats,
      failed: (error) => device.fail(error),
      storeFailed: (error) => this.#o.onEvent?.({ kind: 'store-failed', disk, error }),
    })
    return { ...connection, nodes: describeDisk({ sectors: disk.store.sectors, writable: disk.writable, flush: disk.store.flush !== undefined }) }
  }

  #conflicting(store: BlockStore, writable: boolean): Disk | undefined {
    return [...this.#disks.values()].find((other) => other.usesStore && other.store === store && (other.writable || writable))
  }
}
