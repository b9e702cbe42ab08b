/** `serveVbd`: a block backend for every disk that a toolstack gives to this domain. */
import { type Hypervisor, XenError, expectInteger } from '@xenkit/hypervisor'
import { type BackendConnection, type BackendDevice, type BackendDriver, type NodeValues, serveBackends } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { type BlockStore, MAX_SECTORS } from '../block-store.ts'
import { MAX_RING_PAGE_ORDER, describeDisk, offerNodes, readFrontendRing } from '../nodes.ts'
import { type RequestedDisk, type VbdBackendType, readRequestedDisk } from '../requested-disk.ts'
import { vdevName } from '../vdev.ts'
import { connectRing } from './connect.ts'
import { VbdCounters, type VbdStats } from './stats.ts'

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
  /**
   * Where toolstacks put the disks that are for this server, default `vbd` alone. Name another one only
   * where its usual server, tapback or QEMU, is absent: those would serve the same disks, too.
   */
  readonly backendTypes?: readonly VbdBackendType[]
  /** Serve only disks that were plugged with this reservation. By default: only those without one. */
  readonly reservation?: string
  /** Ends the service: each guest is asked to let go of its disk, then what is in flight is settled. */
  readonly signal?: AbortSignal
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
  if (typeof store !== 'function') expectInteger('store.sectors', store.sectors, 1, MAX_SECTORS)
  const xs = await openXenstore(hv.xenstore)
  try {
    const driver = new VbdDriver(hv, xs, o)
    await serveBackends(xs, {
      domid: hv.domid,
      type: 'vbd',
      ...(o.backendTypes ? { backendTypes: o.backendTypes } : {}),
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
    const unread = { backendType: 'vbd', params: '', target: '', format: 'raw', readOnly: true, cdrom: false, removable: false } as const
    return this.#disks.get(device) ?? { ...unread, frontendDomid, devid, stats: new VbdCounters() }
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
    const disk: Disk = { ...(await readRequestedDisk(this.#xs, device)), stats: new VbdCounters() }
    // Before the store is asked for: if there is none, the listener hears of it.
    this.#disks.set(device, disk)
    if (!(await this.#findStore(disk))) {
      this.#disks.delete(device)
      return undefined
    }
    return offerNodes.format({ 'max-ring-page-order': MAX_RING_PAGE_ORDER })
  }

  async connect(device: BackendDevice): Promise<BackendConnection> {
    const disk = this.#disks.get(device)
    const store = disk?.store
    if (!disk || !store) throw new TypeError(`"${device.path}" was not offered`)
    const writable = isWritable(disk, store)
    const nodes = describeDisk({ ...disk, sectors: store.sectors, writable, flush: store.flush !== undefined })
    const connection = await connectRing(this.#hv, {
      domid: device.frontendDomid,
      ring: await readFrontendRing(this.#xs, device.frontendPath),
      store,
      writable,
      counters: disk.stats,
      failed: (error) => device.fail(error),
      storeFailed: (error) => this.tell({ kind: 'store-failed', disk, error }),
    })
    return { ...connection, nodes }
  }

  /**
   * @returns whether there is a store for the disk, which then has it
   * @throws StoreInUseError if a function gave a store that another disk has
   */
  async #findStore(disk: Disk): Promise<boolean> {
    const store = typeof this.#o.store === 'function' ? await this.#o.store(disk) : this.#o.store
    if (store === undefined) return false
    expectInteger('store.sectors', store.sectors, 1, MAX_SECTORS)
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

const isWritable = ({ readOnly }: RequestedDisk, store: BlockStore): boolean => store.write !== undefined && !readOnly
