/**
 * A disk as a guest uses it: a block frontend in TypeScript, for simulated guests and for tests of any
 * backend. It is itself a BlockStore, so that what it reaches can be served again.
 */
import { EventChannel } from '@xenkit/evtchn'
import { GrantTable } from '@xenkit/grant'
import { type Hypervisor, RingProtocolError, XenError, expectInteger } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import { type Abi, BLKIF_OP, BLKIF_RSP, type BlkifLayout, VDISK, XEN_IO_PROTO_ABI, blkif } from '@xenkit/wire'
import { FrontendDevice } from '@xenkit/xenbus'
import { openXenstore } from '@xenkit/xenstore-client'
import type { BlockStore } from '../block-store.ts'
import { type BackendOffer, readGeometry, readOffer, ringNodes } from '../nodes.ts'
import { parseVdev, vdevName } from '../vdev.ts'
import { type DiskRequest, PAGES_PER_ROW, RequestSlots } from './slots.ts'
import { split } from './split.ts'

export interface AttachDiskOptions {
  /** Which disk: `xvda`, or its devid. */
  readonly vdev: string | number
  /** Pages of the ring as a power of two, 0..4; at most what the backend offers. Default 0. */
  readonly ringPageOrder?: number
  /** Most requests in flight, each with 11 granted pages; at most the ring's slots. Default 32. */
  readonly depth?: number
  /** Whose layout to use on the ring; any backend has to understand all of them. Default x86_64. */
  readonly abi?: Abi
  /** Gives up the waiting for the backend. */
  readonly signal?: AbortSignal
}

/** A request that the backend answered with an error, or that could not be made. `status` is a BLKIF_RSP code. */
export class DiskError extends XenError {
  constructor(message: string, details: { readonly vdev: string; readonly status: number }) {
    super('ERR_XEN_DISK', message, details)
  }
}

/**
 * Waits for the disk's backend and connects to it.
 * @throws NegotiationError when the backend publishes what can't be used, or closes instead.
 */
export async function attachDisk(hv: Hypervisor, o: AttachDiskOptions): Promise<Disk> {
  const devid = typeof o.vdev === 'number' ? o.vdev : parseVdev(o.vdev)
  const { ringPageOrder = 0, depth = 32, abi = 'x86_64' } = o
  expectInteger('ringPageOrder', ringPageOrder, 0, 4)
  expectInteger('depth', depth, 1, 512)
  const waiting = o.signal ? { signal: o.signal } : {}
  await using undo = new AsyncDisposableStack()
  const xs = undo.adopt(await openXenstore(hv.xenstore), (client) => client.close())
  const device = await FrontendDevice.open(xs, { domid: hv.domid, type: 'vbd', devid }, waiting)
  const offer = await readOffer(xs, device.backendPath)
  if (ringPageOrder > offer.maxRingPageOrder) throw new RangeError(`"ringPageOrder" expected 0..${offer.maxRingPageOrder}, which is what the backend offers, got ${ringPageOrder}`)

  const grants = undo.use(new GrantTable(hv.grants))
  const ringShare = grants.share({ domid: device.backendDomid, pages: 1 << ringPageOrder, writable: true })
  const ring = FrontRing.init({ bytes: ringShare.bytes, slotSize: blkif[abi].slotSize })
  const rows = Math.min(depth, ring.size)
  const dataShare = grants.share({ domid: device.backendDomid, pages: rows * PAGES_PER_ROW, writable: true })
  const slots = new RequestSlots({ rows, share: dataShare, layout: blkif[abi], ring: ringShare.bytes })
  const channel = undo.use(EventChannel.bindUnbound(hv.evtchn, { domid: device.backendDomid }))

  await device.publish(ringNodes({ grefs: ringShare.grefs, port: channel.port, protocol: XEN_IO_PROTO_ABI[abi], ringPageOrder }))
  await device.connected(waiting)
  const geometry = await readGeometry(xs, device.backendPath)
  const disk = new Disk({ ring, slots, channel, device, layout: blkif[abi], offer: geometry, vdev: vdevName(devid), ringBytes: ringShare.bytes, resources: undo.move() })
  return disk
}

interface DiskParts {
  readonly ring: FrontRing
  readonly slots: RequestSlots
  readonly channel: EventChannel
  readonly device: FrontendDevice
  readonly layout: BlkifLayout
  readonly offer: BackendOffer
  readonly vdev: string
  readonly resources: AsyncDisposableStack
}
