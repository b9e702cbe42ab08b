/** Opens the rings of a block frontend. */
import type { Hypervisor, Owner } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import { type Abi, XEN_IO_PROTO_ABI, blkif } from '@xenkit/wire'
import { type NodeValues, type OpenedRing, openRing } from '@xenkit/xenbus'
import { diskRingNodes, frontendNodes } from '../nodes.ts'

/** The rings to open. */
export interface OpenDiskRingsOptions {
  /** The backend's domain. */
  readonly domid: number
  readonly abi: Abi
  /** Rings, 1..4. */
  readonly queues: number
  /** log2 of the pages of each ring, 0..4. */
  readonly ringPageOrder: number
  /** Whether the frontend reuses its granted pages (`feature-persistent`). */
  readonly persistent: boolean
}

/**
 * Opens empty rings.
 * @param owner closes them
 * @returns the rings, and the nodes to publish them with
 * @throws GrantError, ArenaFullError, EvtchnError when pages, grants or ports are used up
 */
export function openDiskRings(
  hv: Hypervisor,
  owner: Owner,
  { domid, abi, queues, ringPageOrder, persistent }: OpenDiskRingsOptions,
): { readonly rings: OpenedRing<FrontRing>[]; readonly nodes: NodeValues } {
  const { slotSize } = blkif[abi]
  const init = (bytes: Uint8Array): FrontRing => FrontRing.init({ bytes, slotSize })
  // A one-page ring is published without `ring-page-order`, in the form that every backend knows.
  const order = ringPageOrder === 0 ? undefined : ringPageOrder
  const rings = diskRingNodes(queues, order).map((nodes) =>
    owner.own(openRing(hv, { ...nodes, domid, init })),
  )
  const common = frontendNodes.format({
    'ring-page-order': order,
    protocol: XEN_IO_PROTO_ABI[abi],
    // Written even for one ring: an earlier connection may have left another number.
    'multi-queue-num-queues': queues,
    'feature-persistent': persistent,
  })
  return { rings, nodes: Object.assign({}, common, ...rings.map(({ nodes }) => nodes)) }
}
