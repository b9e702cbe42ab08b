/**
 * The xenstore nodes of a block device, by who writes them. Follows xen/include/public/io/blkif.h;
 * where Linux's blkback differs from it, Linux is followed, since that is what guests were tested on.
 *
 * The frontend's nodes are the guest's word: each is read once, strictly, when connecting.
 */
import { UINT32_MAX } from '@xenkit/hypervisor'
import { type Abi, VDISK, XEN_IO_PROTO_ABI } from '@xenkit/wire'
import type { NodeValues } from '@xenkit/xenbus'
import { type NodeDefinition, type XenstoreReader, defineNodes } from '@xenkit/xenstore-client'
import { MAX_SECTORS } from './block-store.ts'

/** Rings of up to 16 pages, as blkback offers. */
export const MAX_RING_PAGE_ORDER = 4

/** In the backend's directory, by the toolstack: what is to be served. */
export const toolstackNodes = defineNodes({
  params: { type: 'text', maxLength: 4096, default: '', writer: 'toolstack', meaning: 'names what is served, in words that toolstack and backend agree on' },
  mode: { type: 'text', maxLength: 8, writer: 'toolstack', meaning: 'without a "w" in it, the guest is to have the disk read-only' },
  removable: { type: 'flag', default: false, writer: 'toolstack', meaning: 'the guest may be told that the medium can be taken out' },
  'device-type': { type: 'text', maxLength: 16, default: 'disk', writer: 'toolstack', meaning: 'disk or cdrom' },
  'xenkit-sectors': { type: 'decimal', min: 1, max: MAX_SECTORS, default: undefined, writer: 'toolstack', meaning: 'the size that the disk is to have, in units of 512 bytes; the answer is in xenkit-result' },
})

/** In the backend's directory, before InitWait: what a frontend may choose from. */
export const offerNodes = defineNodes({
  'max-ring-page-order': { type: 'decimal', max: 31, default: 0, writer: 'backend', meaning: 'most pages of the ring, as a power of two' },
})

/** In the backend's directory, before Connected. */
export const diskNodes = defineNodes({
  sectors: { type: 'decimal', max: MAX_SECTORS, writer: 'backend', meaning: 'size, in units of 512 bytes; 0 in a drive without a medium' },
  'sector-size': { type: 'decimal', min: 512, max: 512, default: 512, writer: 'backend', meaning: 'smallest unit of a request, in bytes' },
  info: { type: 'decimal', max: 7, default: 0, writer: 'backend', meaning: 'VDISK bits: 1 cdrom, 2 removable, 4 read-only' },
  'feature-flush-cache': { type: 'flag', default: false, writer: 'backend', meaning: 'accepts BLKIF_OP_FLUSH_DISKCACHE' },
})

/** In the frontend's directory, before Initialised. `ring-ref`, or `ring-ref0` and so on, come with them. */
export const frontendNodes = defineNodes({
  'event-channel': { type: 'decimal', min: 1, max: UINT32_MAX, writer: 'frontend', meaning: 'port that the backend binds to' },
  'ring-page-order': { type: 'decimal', max: MAX_RING_PAGE_ORDER, default: undefined, writer: 'frontend', meaning: 'pages of the ring as a power of two; if there is such a node, its references are in ring-ref0 and on, even for one page' },
  protocol: { type: 'enum', values: Object.values(XEN_IO_PROTO_ABI), default: undefined, writer: 'frontend', meaning: 'whose layout of the structures the frontend uses' },
  'multi-queue-num-queues': { type: 'decimal', min: 1, max: 1, default: 1, writer: 'frontend', meaning: 'rings; more than one has to be offered' },
})

const GREF = { type: 'decimal', max: UINT32_MAX, writer: 'frontend', meaning: 'grant reference of a page of the ring' } as const satisfies NodeDefinition

/**
 * A frontend that doesn't say is taken for a 32-bit one, as blkback and QEMU do on x86: all others that
 * are known write the node. (blkif.h would have it be the backend's own layout.)
 */
const ABI_OF_A_SILENT_FRONTEND: Abi = 'x86_32'

/** Where a frontend's ring is, and how it is laid out. */
export interface FrontendRing {
  readonly grefs: readonly number[]
  readonly port: number
  readonly abi: Abi
}

/** @throws NegotiationError naming the node that is missing or holds what can't be used */
export async function readFrontendRing(view: XenstoreReader, path: string): Promise<FrontendRing> {
  const nodes = await frontendNodes.read(view, path)
  const refNodes = defineNodes(Object.fromEntries(ringRefNames(nodes['ring-page-order']).map((name) => [name, GREF])))
  return { grefs: Object.values(await refNodes.read(view, path)), port: nodes['event-channel'], abi: abiOf(nodes.protocol) }
}

/** What a frontend publishes. */
export function ringNodes(o: { readonly grefs: Uint32Array; readonly port: number; readonly abi: Abi; readonly ringPageOrder: number }): NodeValues {
  // One page is published the old way: every backend understands that.
  const order = o.ringPageOrder === 0 ? undefined : o.ringPageOrder
  return {
    ...frontendNodes.format({ 'event-channel': o.port, 'ring-page-order': order, protocol: XEN_IO_PROTO_ABI[o.abi] }),
    ...Object.fromEntries(ringRefNames(order).map((name, i) => [name, String(o.grefs[i])])),
  }
}

/** What a backend publishes before Connected. */
export function describeDisk(o: { readonly sectors: number; readonly writable: boolean; readonly cdrom: boolean; readonly removable: boolean; readonly flush: boolean }): NodeValues {
  const info = (o.writable ? 0 : VDISK.READONLY) | (o.cdrom ? VDISK.CDROM : 0) | (o.removable ? VDISK.REMOVABLE : 0)
  return diskNodes.format({ sectors: o.sectors, 'sector-size': 512, info, 'feature-flush-cache': o.flush })
}

const ringRefNames = (order: number | undefined): string[] => (order === undefined ? ['ring-ref'] : Array.from({ length: 1 << order }, (_, i) => `ring-ref${i}`))

function abiOf(protocol: string | undefined): Abi {
  switch (protocol) {
    case XEN_IO_PROTO_ABI.x86_64:
      return 'x86_64'
    case XEN_IO_PROTO_ABI.arm:
      return 'arm'
    case XEN_IO_PROTO_ABI.x86_32:
      return 'x86_32'
    default:
      return ABI_OF_A_SILENT_FRONTEND
  }
}
