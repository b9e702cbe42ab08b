/**
 * The xenstore nodes of a block device, by writer. They follow xen/include/public/io/blkif.h. Where
 * Linux's blkback differs, they follow blkback, which guests are tested with.
 *
 * A guest may write anything to the frontend's nodes: each is read once, when connecting, and
 * checked.
 */
import { UINT32_MAX } from '@xenkit/hypervisor'
import { type Abi, XEN_IO_PROTO_ABI } from '@xenkit/wire'
import { type PublishedRing, type RingNodes, queueDirectories, readRings } from '@xenkit/xenbus'
import { type XenstoreReader, defineNodes } from '@xenkit/xenstore-client'
import { MAX_SECTORS } from '@xenkit/block-store'

/** Largest ring: log2 of its pages. 16 pages, as blkback offers. */
export const MAX_RING_PAGE_ORDER = 4

/** Most rings of a disk: as many as Linux's blkfront asks for. */
export const MAX_QUEUES = 4

/** Most segments of an indirect request: 1 MiB of data, as blkback offers. */
export const MAX_SEGMENTS = 256

/** The toolstack's nodes in the backend's directory: what to serve, and how. */
export const toolstackNodes = defineNodes({
  params: {
    type: 'text',
    maxLength: 4096,
    default: '',
    writer: 'toolstack',
    meaning: 'names what to serve; its form is agreed between toolstack and backend',
  },
  mode: {
    type: 'text',
    maxLength: 8,
    writer: 'toolstack',
    meaning: 'without a "w" the guest gets the disk read-only',
  },
  'device-type': {
    type: 'text',
    maxLength: 32,
    default: 'disk',
    writer: 'toolstack',
    meaning: '"cdrom": the disk is a CD-ROM drive, which is read-only',
  },
  removable: {
    type: 'flag',
    default: false,
    writer: 'toolstack',
    meaning: 'tells the guest that the medium is removable',
  },
  'discard-enable': {
    type: 'flag',
    default: true,
    writer: 'toolstack',
    meaning: 'whether discard is offered if the store has it',
  },
  'xenkit-sectors': {
    type: 'decimal',
    min: 1,
    max: MAX_SECTORS,
    default: undefined,
    writer: 'toolstack',
    meaning: 'requested size of the disk, in units of 512 bytes; the answer is in xenkit-result',
  },
})

/**
 * The backend's nodes in its directory, written before InitWait: limits for the frontend's choices.
 */
export const offerNodes = defineNodes({
  'max-ring-page-order': {
    type: 'decimal',
    max: 31,
    default: 0,
    writer: 'backend',
    meaning: 'log2 of the most pages of a ring',
  },
  'multi-queue-max-queues': {
    type: 'decimal',
    min: 1,
    max: UINT32_MAX,
    default: 1,
    writer: 'backend',
    meaning: 'most rings of the disk',
  },
  'feature-max-indirect-segments': {
    type: 'decimal',
    max: UINT32_MAX,
    default: 0,
    writer: 'backend',
    meaning: 'most segments of a BLKIF_OP_INDIRECT; 0: the operation is not offered',
  },
})

/** A hint: an invalid value is read as NaN and ignored, since the disk works without it. */
const HINT = {
  type: 'decimal',
  max: UINT32_MAX,
  default: 0,
  otherwise: NaN,
  writer: 'backend',
} as const

/**
 * The backend's nodes in its directory that describe the disk. Written with the offer, and again,
 * up to date, before Connected.
 */
export const diskNodes = defineNodes({
  sectors: {
    type: 'decimal',
    max: MAX_SECTORS,
    writer: 'backend',
    meaning: 'size, in units of 512 bytes; 0 in a drive without a medium',
  },
  'sector-size': {
    type: 'decimal',
    min: 512,
    max: 4096,
    default: 512,
    writer: 'backend',
    meaning: 'smallest unit of a request, in bytes; sector numbers still count units of 512 bytes',
  },
  'physical-sector-size': {
    ...HINT,
    meaning:
      'physical unit of the medium, in bytes: smaller writes make it read first; 0 for sector-size',
  },
  info: {
    type: 'decimal',
    max: 7,
    default: 0,
    writer: 'backend',
    meaning: 'VDISK bits: 1 cdrom, 2 removable, 4 read-only',
  },
  'feature-flush-cache': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'accepts BLKIF_OP_FLUSH_DISKCACHE',
  },
  'feature-barrier': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'accepts BLKIF_OP_WRITE_BARRIER',
  },
  'feature-discard': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'accepts BLKIF_OP_DISCARD',
  },
  'discard-granularity': {
    ...HINT,
    meaning: 'size of a granule of discard, in bytes; 0 for sector-size',
  },
  'discard-alignment': {
    ...HINT,
    meaning: 'offset of the first granule, in bytes',
  },
  'discard-secure': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'supports BLKIF_DISCARD_SECURE',
  },
  'feature-persistent': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'keeps granted pages mapped for later requests',
  },
})

/**
 * The frontend's nodes in its directory, written before Initialised together with the nodes of its
 * rings: see `diskRingNodes`.
 */
export const frontendNodes = defineNodes({
  'ring-page-order': {
    type: 'decimal',
    max: MAX_RING_PAGE_ORDER,
    default: undefined,
    writer: 'frontend',
    meaning:
      "log2 of a ring's pages; with it, references are in ring-ref0 and on, even for one page",
  },
  protocol: {
    type: 'enum',
    values: Object.values(XEN_IO_PROTO_ABI),
    default: undefined,
    writer: 'frontend',
    meaning: "layout of the ring's structures that the frontend uses",
  },
  'multi-queue-num-queues': {
    type: 'decimal',
    min: 1,
    max: MAX_QUEUES,
    default: 1,
    writer: 'frontend',
    meaning: 'number of rings; if several, their nodes are in directories queue-0 and on',
  },
  'feature-persistent': {
    type: 'flag',
    default: false,
    writer: 'frontend',
    meaning: 'reuses its granted pages, which are writable',
  },
  'feature-large-sector-size': {
    type: 'flag',
    default: false,
    writer: 'frontend',
    meaning: 'sector numbers may count units of sector-size: deprecated',
  },
})

/** A frontend's rings, their layout, and its features. */
export interface FrontendRings {
  readonly rings: readonly PublishedRing[]
  readonly abi: Abi
  readonly persistent: boolean
  readonly largeSectors: boolean
}

/**
 * The directories and orders of a disk's rings in xenstore.
 * @param order log2 of each ring's pages, as in `ring-page-order`; undefined without that node
 */
export const diskRingNodes = (queues: number, order: number | undefined): RingNodes[] =>
  queueDirectories(queues).map((directory) => ({ directory, order }))

/**
 * Reads and checks what a frontend published.
 *
 * @throws NegotiationError naming the node that is missing or invalid
 */
export async function readFrontendRings(
  view: XenstoreReader,
  path: string,
): Promise<FrontendRings> {
  const nodes = await frontendNodes.read(view, path)
  const rings = diskRingNodes(nodes['multi-queue-num-queues'], nodes['ring-page-order'])
  return {
    rings: await readRings(view, path, rings),
    abi: abiOf(nodes.protocol),
    persistent: nodes['feature-persistent'],
    largeSectors: nodes['feature-large-sector-size'],
  }
}

/**
 * The layout of the ring's structures that a frontend uses. Without the node it is the backend's
 * own (blkif.h). On x86 it is then the 32-bit one, as with blkback and QEMU: every known 64-bit
 * frontend writes the node.
 * @param arch this machine's; all but x86 align 64-bit numbers as Arm does
 */
export function abiOf(protocol: string | undefined, arch: string = process.arch): Abi {
  switch (protocol) {
    case XEN_IO_PROTO_ABI.x86_64:
      return 'x86_64'
    case XEN_IO_PROTO_ABI.arm:
      return 'arm'
    case XEN_IO_PROTO_ABI.x86_32:
      return 'x86_32'
    default:
      return arch === 'x64' || arch === 'ia32' ? 'x86_32' : 'arm'
  }
}
