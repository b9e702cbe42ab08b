/**
 * Connects a block frontend: for simulated guests, for tests of any backend, and for disks of other
 * domains' in this one.
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

/** Options of `openVbd`: which disk, and how to connect to it. */
export interface OpenVbdOptions {
  /** Which disk: `xvda`, or its devid. */
  readonly vdev: string | number
  /** Rings, 1..4; at most as many as the backend offers. Default 1. */
  readonly queues?: number
  /** Pages of each ring as a power of two, 0..4; at most what the backend offers. Default 0. */
  readonly ringPageOrder?: number
  /** Most requests in flight on each ring, at most the ring's slots. Default 32. */
  readonly depth?: number
  /** Whose layout to use on the ring; any backend has to understand all of them. Default x86_64. */
  readonly abi?: Abi
  /** Gives up the waiting for the backend. */
  readonly signal?: AbortSignal
}

/** How long a backend may take to let go of the rings of a disk that couldn't be attached. */
const CLOSE_TIMEOUT_MS = 1_000

/**
 * Waits for the disk's backend and connects to it. What fails leaves nothing open: a backend that
 * has the rings by then is asked to close, and given a second.
 * @throws TypeError for what is no hypervisor
 * @throws RangeError for a vdev, depth, or number or order of rings out of range
 * @throws NegotiationError when the backend publishes what can't be used, or closes instead
 * @throws the signal's reason when that aborts
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
  /** Once its backend may have seen the rings. */
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
    // That of an earlier life with larger rings would have the backend look for those.
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
    // A backend that wants to go waits for this side to let go. The connection ends with the disk.
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

/** An indirect request that holds no more than a plain one isn't worth its page. */
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
 * Ends with the connection, or with a size that can't be. A backend that has another one writes the
 * node, and its state once more.
 */
async function followSize(xs: XenstoreClient, backendPath: string, disk: Disk): Promise<never> {
  for (;;) {
    const sectors = await xs.wait(async (view) => {
      // It is not there any more where the device was removed.
      const found = await view.readOptional(`${backendPath}/sectors`)
      return found === undefined || found === String(disk.sectors)
        ? undefined
        : diskNodes.readNode(view, backendPath, 'sectors')
    })
    disk.resized(sectors)
  }
}
