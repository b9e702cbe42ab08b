/** The driver behind `serveVbd`: each disk's store, from the offer to its release. */
import {
  type CrossingError,
  type DriverContext,
  tellListener,
  unlessAborted,
  unpackError,
} from '@xenkit/backend'
import { type Hypervisor, NegotiationError } from '@xenkit/hypervisor'
import {
  type BackendConnection,
  type BackendDevice,
  type BackendDriver,
  type NodeValues,
  isStillPublished,
} from '@xenkit/xenbus'
import type { XenstoreClient } from '@xenkit/xenstore-client'
import type { BlockStore } from '@xenkit/block-store'
import {
  type FrontendRings,
  MAX_QUEUES,
  MAX_RING_PAGE_ORDER,
  MAX_SEGMENTS,
  diskNodes,
  offerNodes,
  readFrontendRings,
  toolstackNodes,
} from '../nodes.ts'
import { type RequestedDisk, readRequestedDisk } from '../requested-disk.ts'
import { vdevName } from '../vdev.ts'
import { connectRings } from './connect.ts'
import type { DiskRingsConfig } from './disk-rings.ts'
import { ChangeRefusedError, StoreInUseError } from './disk-errors.ts'
import { Drive } from './drive.ts'
import { eventLog } from './event-log.ts'
import { expectStore } from './expect-store.ts'
import {
  type Limits,
  describeDisk,
  describeSize,
  limitsOf,
  sectorsOf,
  shareLimits,
} from './limits.ts'
import type { ServeVbdOptions, StoreAnswer, StoreFunction } from './serve-vbd-options.ts'
import { DiskCounters } from './stats.ts'
import type { ServedDisk, VbdEvent } from './vbd-event.ts'

const storeIn = (answer: StoreAnswer): BlockStore | undefined =>
  typeof answer === 'string' ? undefined : answer

interface Disk extends ServedDisk {
  params: string
  target: string
  format: string
  formatSaid: boolean
  readonly counters: DiskCounters
  /**
   * The store that the disk serves. Undefined before it is chosen, after it was refused, and for a
   * drive without a medium.
   */
  store?: BlockStore | undefined
  /** For a CD-ROM drive: hides from the rings that the medium may change. */
  drive?: Drive
}

/** Driver of the disks of one `serveVbd`: chooses their stores and connects their rings. */
export class VbdDriver implements BackendDriver {
  readonly changeable = ['params', 'xenkit-sectors']
  readonly #hv: Hypervisor
  readonly #xs: XenstoreClient
  readonly #o: ServeVbdOptions
  readonly #onEvent: (event: VbdEvent) => void
  /** Aborts when waiting for stores ends. */
  readonly #abandon: AbortSignal
  readonly #disks = new Map<BackendDevice, Disk>()

  constructor(hv: Hypervisor, o: ServeVbdOptions, { xs, abandon }: DriverContext) {
    this.#hv = hv
    this.#xs = xs
    this.#o = o
    this.#abandon = abandon
    this.#onEvent = o.onEvent ?? eventLog()
  }

  diskOf(device: BackendDevice): ServedDisk {
    const { frontendDomid, devid } = device
    // A device can fail before its own nodes were read: report it with defaults.
    const unread = {
      backendType: 'vbd',
      params: '',
      target: '',
      format: 'raw',
      formatSaid: false,
      readOnly: true,
      cdrom: false,
      removable: false,
      discard: false,
    } as const
    return (
      this.#disks.get(device) ?? {
        ...unread,
        frontendDomid,
        devid,
        stats: new DiskCounters().stats,
      }
    )
  }

  removed(device: BackendDevice): void {
    const store = this.#disks.get(device)?.store
    this.#disks.delete(device)
    this.#release(store)
  }

  #release(store: BlockStore | undefined): void {
    if (
      !store ||
      typeof this.#o.store !== 'function' ||
      [...this.#disks.values()].some((disk) => disk.store === store)
    ) {
      return
    }
    void this.#o.release?.(store)
  }

  tell(event: VbdEvent): void {
    tellListener(this.#onEvent, event)
  }

  async offer(device: BackendDevice): Promise<NodeValues | undefined> {
    const counters = new DiskCounters()
    const disk: Disk = {
      ...(await readRequestedDisk(this.#xs, device)),
      counters,
      stats: counters.stats,
    }
    // Registered before its store is chosen, so that a failure is reported with the disk's nodes.
    this.#disks.set(device, disk)
    const found = await this.#findStore(disk).catch((error: unknown) => {
      if (error !== this.#abandon.reason) throw error
      // The service ends before the disk was offered.
      this.tell({ kind: 'declined', disk, error })
      return false
    })
    const store = disk.drive ?? disk.store
    if (!found || !store) {
      this.#disks.delete(device)
      return undefined
    }
    const offered = offerNodes.format({
      'max-ring-page-order': MAX_RING_PAGE_ORDER,
      'multi-queue-max-queues': MAX_QUEUES,
      'feature-max-indirect-segments': MAX_SEGMENTS,
    })
    const persistent = this.#o.dataPath === 'persistent'
    const described = describeDisk(store, {
      limits: limitsOf(store, disk),
      policy: disk,
      persistent,
    })
    // Write all nodes with the offer, as QEMU does. A domain has a quota of nodes: a disk that was
    // offered must not run out of them when it connects.
    return { ...offered, ...described }
  }

  async connect(device: BackendDevice): Promise<BackendConnection> {
    const disk = this.#disks.get(device)
    const store: BlockStore | undefined = disk?.drive ?? disk?.store
    if (!disk || !store) throw new TypeError(`"${device.path}" was not offered`)
    const { dataPath = 'copy' } = this.#o
    const { counters } = disk
    const persistent = dataPath === 'persistent'
    const describe = (limits: Limits): NodeValues =>
      describeDisk(store, { limits, policy: disk, persistent })
    const read = (): Promise<FrontendRings> => readFrontendRings(this.#xs, device.frontendPath)
    const frontend = await read()
    await this.#withdraw(device, describe(limitsOf(store, disk)))
    const own = { store, limits: limitsOf(store, disk), counters: counters.own }
    if (own.limits.sectorMask > 0 && frontend.largeSectors) throw refusedUnits(device)
    const { workers } = this.#o
    const shared = workers && workers.count > 0 ? store.share?.() : undefined
    const elsewhere = workers && shared && { workers, shared, limits: shareLimits(own.limits) }
    const { limits } = elsewhere ?? own
    const resized = store.onResize?.(() => {
      try {
        limits.sectors = sectorsOf(store)
        const failed = (error: unknown): void => device.fail(error)
        device.publish(() => describeSize(store, limits)).catch(failed)
      } catch (error) {
        device.fail(error)
      }
    })
    let connection: Pick<BackendConnection, 'close'>
    try {
      const domid = device.frontendDomid
      const path = persistent && !frontend.persistent ? 'copy' : dataPath
      const failed = (error: unknown): void => device.fail(error)
      const storeFailed = (error: unknown): void => this.tell({ kind: 'store-failed', disk, error })
      const abandon = this.#abandon
      connection = await (elsewhere
        ? elsewhere.workers.connect({
            host: 'vbd',
            rings: frontend.rings,
            config: (rings, thread): DiskRingsConfig => ({
              domid,
              frontend: { ...frontend, rings },
              store: { module: elsewhere.shared.module, data: elsewhere.shared.data },
              limits: elsewhere.limits,
              dataPath: path,
              numbers: counters.of(thread),
            }),
            failed,
            told: (error: CrossingError) => storeFailed(unpackError(error)),
            released: () => elsewhere.shared[Symbol.dispose](),
            abandon,
          })
        : connectRings(this.#hv, {
            ...own,
            domid,
            frontend,
            dataPath: path,
            failed,
            storeFailed,
            abandon,
          }))
      counters.connected({ dataPath: path, queues: frontend.rings.length })
    } catch (error) {
      resized?.[Symbol.dispose]()
      throw error
    }
    return {
      // A getter, since the size may change before the nodes are written.
      get nodes() {
        return describe(limits)
      },
      isCurrent: () =>
        isStillPublished(
          frontend.rings,
          read().then(({ rings }) => rings),
        ),
      async close(o) {
        resized?.[Symbol.dispose]()
        try {
          await connection.close(o)
        } finally {
          counters.disconnected()
        }
      },
    }
  }

  /** Removes nodes of an earlier server that aren't in `nodes`: a frontend would still use them. */
  async #withdraw({ path }: BackendDevice, nodes: NodeValues): Promise<void> {
    const stale = Object.keys(diskNodes.definitions).filter((name) => !(name in nodes))
    await Promise.all(stale.map((name) => this.#xs.rm(`${path}/${name}`)))
  }

  async changed(device: BackendDevice): Promise<void> {
    const disk = this.#disks.get(device)
    if (!disk) return
    const [wanted, sectors] = await Promise.all([
      readRequestedDisk(this.#xs, device),
      toolstackNodes.readNode(this.#xs, device.path, 'xenkit-sectors'),
    ])
    const isOther = wanted.params !== disk.params
    const isResized = sectors !== undefined && sectors !== disk.store?.sectors
    if (isOther) await this.#changeMedium(disk, wanted)
    if (isResized) await unlessAborted(resize(disk, sectors), this.#abandon)
    if (isOther || isResized) this.tell({ kind: 'changed', disk })
  }

  async #changeMedium(disk: Disk, wanted: RequestedDisk): Promise<void> {
    if (!disk.drive) {
      throw new ChangeRefusedError("the disk is no CD-ROM drive: its medium can't be changed", {
        disk,
      })
    }
    const answer = wanted.target === '' ? 'no-medium' : await this.#ask(wanted)
    if (answer === 'decline') {
      throw new ChangeRefusedError(`no medium is named "${wanted.params}"`, { disk })
    }
    const medium = storeIn(answer)
    if (medium) this.#expectFree(medium, wanted)
    const former = disk.store
    disk.store = medium
    disk.params = wanted.params
    disk.target = wanted.target
    disk.format = wanted.format
    disk.formatSaid = wanted.formatSaid
    // A read of the former medium may never end.
    const changed = disk.drive.change(disk.store).then(() => this.#release(former))
    await unlessAborted(changed, this.#abandon)
  }

  /**
   * Chooses the store of a disk and checks it.
   *
   * @throws TypeError, RangeError for a store that can't be served
   */
  async #ask(disk: RequestedDisk): Promise<StoreAnswer> {
    const { store: source } = this.#o
    const answer = typeof source === 'function' ? await this.#askFunction(source, disk) : source
    if (answer === 'decline') return answer
    if (answer === 'no-medium') {
      if (disk.cdrom) return answer
      throw new TypeError('"store" expected a store: only a CD-ROM drive can be without a medium')
    }
    expectStore(answer)
    limitsOf(answer, disk)
    // A drive's sector size is published once, for all media.
    const { sectorSize = 512 } = answer
    if (disk.cdrom && sectorSize !== 512) {
      throw new RangeError(`"store.sectorSize" expected 512 in a CD-ROM drive, got ${sectorSize}`)
    }
    return answer
  }

  /**
   * Calls the store function.
   *
   * @throws DeviceAbandonedError if it doesn't answer in time: a store that it returns later is
   *   released
   */
  async #askFunction(source: StoreFunction, disk: RequestedDisk): Promise<StoreAnswer> {
    const answer = Promise.resolve(source(disk))
    try {
      return await unlessAborted(answer, this.#abandon)
    } catch (error) {
      // The disk is gone by then, so a late error is ignored.
      void answer.then(
        (late) => this.#release(storeIn(late)),
        () => {},
      )
      throw error
    }
  }

  /** @throws StoreInUseError if another disk uses the store and one of the two can write to it */
  #expectFree(store: BlockStore, disk: RequestedDisk): void {
    const user = [...this.#disks.values()].find(
      (other) => other.store === store && (isWritable(other, store) || isWritable(disk, store)),
    )
    if (user) {
      throw new StoreInUseError(
        `the store is in use by ${vdevName(user.devid)} of domain ${user.frontendDomid}: give each disk that can be written a store of its own`,
        { user },
      )
    }
  }

  /**
   * Chooses the disk's store and gives it to the disk.
   *
   * @returns whether the disk has a store, or is a drive
   * @throws StoreInUseError if the function returned a store that another disk uses
   */
  async #findStore(disk: Disk): Promise<boolean> {
    const answer = await this.#ask(disk)
    if (answer === 'decline') return false
    const store = storeIn(answer)
    try {
      if (store) this.#expectFree(store, disk)
    } catch (error) {
      if (typeof this.#o.store === 'function') throw error
      this.tell({ kind: 'declined', disk, error })
      return false
    }
    disk.store = store
    if (disk.cdrom) disk.drive = new Drive(disk.store)
    return true
  }
}

async function resize(disk: Disk, sectors: number): Promise<void> {
  if (!disk.store?.resize || disk.drive) {
    throw new ChangeRefusedError("the disk's store can't be resized", { disk })
  }
  await disk.store.resize(sectors)
}

/**
 * Refuses a frontend that may count in units of `sector-size`: its data would silently go to wrong
 * sectors. blkif.h deprecates the node, and has backends ignore it.
 */
function refusedUnits(device: BackendDevice): NegotiationError {
  const node = `${device.frontendPath}/feature-large-sector-size`
  const reason = "the disk's sectors are larger than 512 bytes, in which this backend counts"
  return new NegotiationError(`node "${node}" holds "1", expected none or 0: ${reason}`, {
    node,
    value: '1',
    expected: '0',
  })
}

const isWritable = ({ readOnly }: RequestedDisk, store: BlockStore): boolean =>
  store.write !== undefined && !readOnly
