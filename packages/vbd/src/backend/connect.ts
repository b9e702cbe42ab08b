/** Attaches to the ring that a frontend has published: grants mapped, port bound, queue running. */
import { EventChannel } from '@xenkit/evtchn'
import { GrantTable } from '@xenkit/grant'
import { type Hypervisor, PAGE_SIZE, type Pages } from '@xenkit/hypervisor'
import { BackRing } from '@xenkit/ring'
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, blkif } from '@xenkit/wire'
import type { BackendConnection } from '@xenkit/xenbus'
import type { BlockStore } from '../block-store.ts'
import type { FrontendRing } from '../nodes.ts'
import { VbdQueue } from './queue.ts'
import { REQUEST_BYTES, Requests } from './requests.ts'
import type { VbdCounters } from './stats.ts'

/** Most requests on the store at once, 64 of 44 KiB: as many as a two-page ring holds. */
const MAX_ROWS = 64

export interface ConnectOptions {
  readonly domid: number
  readonly ring: FrontendRing
  readonly store: BlockStore
  readonly writable: boolean
  readonly counters: VbdCounters
  /** The ring can't be served any more. */
  readonly failed: (error: unknown) => void
  readonly storeFailed: (error: unknown) => void
}

/**
 * @throws GrantError, EvtchnError when the published references or port can't be had: the frontend's
 *   fault, which closes its device
 */
export async function connectRing(hv: Hypervisor, o: ConnectOptions): Promise<Pick<BackendConnection, 'close'>> {
  const { domid, store } = o
  const grants = new GrantTable(hv.grants)
  let channel: EventChannel | undefined
  let buffers: Pages | undefined
  try {
    const mapping = await grants.map(o.ring.grefs.map((gref) => ({ domid, gref })), { writable: true })
    const layout = blkif[o.ring.abi]
    const ring = BackRing.attach({ bytes: mapping.bytes, slotSize: layout.slotSize })
    const rows = Math.min(ring.size, MAX_ROWS)
    buffers = hv.arena.allocate((rows * REQUEST_BYTES) / PAGE_SIZE)
    const copier = grants.openCopier({ domid, capacity: rows * BLKIF_MAX_SEGMENTS_PER_REQUEST })
    const limits = { get sectors() { return store.sectors }, writable: o.writable, flush: store.flush !== undefined }
    const requests = new Requests({ rows, buffers, image: ring.image, layout, limits })
    channel = EventChannel.bindInterdomain(hv.evtchn, { domid, port: o.ring.port })
    const queue = new VbdQueue({ ring, channel, copier, requests, layout, store, counters: o.counters, failed: o.failed, storeFailed: o.storeFailed })
    channel.handle(() => queue.turn(), o.failed)
    // The frontend may have sent requests, and their event, before there was a port to receive it.
    queue.turn()

    const [opened, owned] = [channel, buffers]
    return {
      async close() {
        await queue.settle()
        closeAll(opened, grants, owned)
      },
    }
  } catch (error) {
    closeAll(channel, grants, buffers)
    throw error
  }
}

/** Closes the others though one fails to, and throws what that one did. */
function closeAll(...[first, ...rest]: ({ close(): void } | undefined)[]): void {
  try {
    first?.close()
  } finally {
    if (rest.length > 0) closeAll(...rest)
  }
}
