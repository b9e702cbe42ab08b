/** Opens the rings of a block frontend. */
import type { Hypervisor, Owner } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import { type Abi, XEN_IO_PROTO_ABI, blkif } from '@xenkit/wire'
import { type NodeValues, type OpenedRing, openRing } from '@xenkit/xenbus'
import { diskRingNodes, frontendNodes } from '../nodes.ts'

export interface OpenDiskRingsOptions {
  /** The backend's domain. */
  readonly domid: number
  readonly abi: Abi
  /** Rings, 1..4. */
  readonly queues: number
  /** Pages of each ring as a power of two, 0..4. */
  readonly ringPageOrder: number
  /** Whether the frontend uses the same pages again. */
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
  // Rings of one page are published the old way, which every backend understands.
  const order = ringPageOrder === 0 ? undefined : ringPageOrder
  const rings = diskRingNodes(queues, order).map((nodes) =>
    owner.own(openRing(hv, { ...nodes, domid, init })),
  )
  const common = frontendNodes.format({
    'ring-page-order': order,
    protocol: XEN_IO_PROTO_ABI[abi],
    // Even for one: the number of an earlier life may still be there.
    'multi-queue-num-queues': queues,
    'feature-persistent': persistent,
  })
  return { rings, nodes: Object.assign({}, common, ...rings.map(({ nodes }) => nodes)) }
}
