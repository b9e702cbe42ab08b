/**
 * Connects a block frontend: for simulated guests, for tests of any backend, and to use disks that
 * another domain serves to this one.
 */
import { GrantTable } from '@xenkit/grant'
import {
  type Hypervisor,
  NegotiationError,
  Owner,
  PAGE_SIZE,
  expectHypervisor,
  expectInteger,
  failuresOf,
  firstOf,
} from '@xenkit/hypervisor'
import { type Abi, BLKIF_MAX_SEGMENTS_PER_REQUEST, blkif } from '@xenkit/wire'
import { FrontendDevice } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { type SectorSize, isSectorSize } from '@xenkit/block-store'
import { MAX_QUEUES, MAX_RING_PAGE_ORDER, MAX_SEGMENTS, diskNodes, offerNodes } from '../nodes.ts'
import { parseVdev, vdevName } from '../vdev.ts'
import { DiskRing } from './disk-ring.ts'
import { Disk, MAX_PLAIN_REQUEST } from './disk.ts'
import { GrantedPages } from './granted-pages.ts'
import { openDiskRings } from './open-disk-rings.ts'

/** Which disk to open, and how. */
export interface OpenVbdOptions {
  /** The disk: a device name such as `xvda`, or a devid. */
  readonly vdev: string | number
  /** Rings, 1..4; at most as many as the backend offers. Default 1. */
  readonly queues?: number
  /** log2 of the pages of each ring, 0..4; at most what the backend offers. Default 0. */
  readonly ringPageOrder?: number
  /** Most requests in flight on each ring, 1..512; never more than the ring's slots. Default 32. */
  readonly depth?: number
  /** Layout of the ring's structures; every backend has to accept each of them. Default x86_64. */
  readonly abi?: Abi
  /** Ends the wait for the backend. */
  readonly signal?: AbortSignal
}

/**
 * How long a backend may take to release the rings of a disk that failed to open, in milliseconds.
 */
const CLOSE_TIMEOUT_MS = 1_000

/**
 * Opens a disk of this domain: waits for its backend and connects to it. Follows
 * xen/include/public/io/blkif.h. A failure leaves nothing open: if the backend has mapped the rings
 * by then, it is asked to close and given one second.
 * @throws TypeError if `hv` is no hypervisor
 * @throws RangeError for a vdev, depth, or number or order of rings out of range
 * @throws NegotiationError if the backend publishes an invalid node, or closes instead
 * @throws the signal's reason if it aborts
 */
export async function openVbd(hv: Hypervisor, o: OpenVbdOptions): Promise<Disk> {
  expectHypervisor(hv)
  const devid = parseVdev(String(o.vdev))
  const { queues = 1, ringPageOrder = 0, depth = 32, abi = 'x86_64' } = o
  expectInteger('queues', queues, 1, MAX_QUEUES)
  expectInteger('ringPageOrder', ringPageOrder, 0, MAX_RING_PAGE_ORDER)
  expectInteger('depth', depth, 1, 512)
  const waiting = o.signal ? { signal: o.signal } : {}

  const owner = new Owner()
  const xs = owner.own(await openXenstore(hv.xenstore))
  const grants = owner.own(new GrantTable(hv.grants))
  /** Set once the backend may have seen the rings. */
  let published: FrontendDevice | undefined
  const close = async (signal: AbortSignal): Promise<unknown[]> => {
    const unclosed = published ? await failuresOf([published.close({ signal })]) : []
    return [...unclosed, ...owner.closeEach()]
  }
  try {
    const device = await FrontendDevice.open(xs, { domid: hv.domid, type: 'vbd', devid }, waiting)
    const domid = device.backendDomid
    const share = (pages: number) => grants.share({ domid, pages, writable: true })
    const offered = await offerNodes.read(xs, device.backendPath)
    expectOffered('queues', queues, offered['multi-queue-max-queues'])
    expectOffered('ringPageOrder', ringPageOrder, offered['max-ring-page-order'])
    const persistent = true
    const opened = openDiskRings(hv, owner, { domid, abi, queues, ringPageOrder, persistent })
    // An earlier connection with larger rings may have left the node.
    if (ringPageOrder === 0) await xs.rm(`${device.path}/ring-page-order`)
    published = device
    await device.publish(opened.nodes)
    await device.connected(waiting)
    const nodes = await diskNodes.read(xs, device.backendPath)
    const disk = new Disk({
      rings: opened.rings.map((ring) => new DiskRing({ opened: ring, layout: blkif[abi], depth })),
      pages: new GrantedPages(share),
      published: nodes,
      sectorSize: sectorSizeOf(device, nodes['sector-size']),
      maxRequest: maxRequestOf(offered['feature-max-indirect-segments']),
      vdev: vdevName(devid),
      async close(signal) {
        const errors = await close(signal)
        if (errors.length > 0) throw firstOf(errors)
      },
    })
    const lost = (error: unknown): void => disk.lost(error)
    // A backend that closes waits until this side has closed. The xenstore connection ends with the
    // disk.
    device.backendClosing().then(() => void disk.close().catch(() => {}), lost)
    followSize(xs, device.backendPath, disk).catch(lost)
    return disk
  } catch (error) {
    throw firstOf([error, ...(await close(AbortSignal.timeout(CLOSE_TIMEOUT_MS)))])
  }
}

function expectOffered(option: string, value: number, offered: number): void {
  if (value > offered) {
    throw new RangeError(
      `"${option}" expected at most ${offered}, which the backend offers, got ${value}`,
    )
  }
}

/** Indirect requests are used only if they hold more than a plain one. */
const maxRequestOf = (indirectSegments: number): number =>
  indirectSegments > BLKIF_MAX_SEGMENTS_PER_REQUEST
    ? Math.min(indirectSegments, MAX_SEGMENTS) * PAGE_SIZE
    : MAX_PLAIN_REQUEST

function sectorSizeOf(device: FrontendDevice, size: number): SectorSize {
  if (isSectorSize(size)) return size
  const node = `${device.backendPath}/sector-size`
  const [value, expected] = [String(size), 'a power of two, 512..4096']
  const message = `node "${node}" holds "${value}", expected ${expected}`
  throw new NegotiationError(message, { node, value, expected })
}

/**
 * Follows changes of the disk's size: the backend writes `sectors`, then its state once more.
 * Rejects when the connection ends, or for an invalid size.
 */
async function followSize(xs: XenstoreClient, backendPath: string, disk: Disk): Promise<never> {
  for (;;) {
    const sectors = await xs.wait(async (view) => {
      // The node is gone if the device was removed.
      const found = await view.readOptional(`${backendPath}/sectors`)
      return found === undefined || found === String(disk.sectors)
        ? undefined
        : diskNodes.readNode(view, backendPath, 'sectors')
    })
    disk.resized(sectors)
  }
}
