/**
 * The xenstore nodes of a block device, by who writes them. Follows xen/include/public/io/blkif.h;
 * where Linux's blkback differs from it, Linux is followed, since that is what guests were tested
 * on.
 *
 * The frontend's nodes are the guest's word: each is read once, strictly, when connecting.
 */
import { UINT32_MAX } from '@xenkit/hypervisor'
import { type Abi, XEN_IO_PROTO_ABI } from '@xenkit/wire'
import { type PublishedRing, type RingNodes, queueDirectories, readRings } from '@xenkit/xenbus'
import { type XenstoreReader, defineNodes } from '@xenkit/xenstore-client'
import { MAX_SECTORS } from '@xenkit/block-store'

/** Rings of up to 16 pages, as blkback offers. */
export const MAX_RING_PAGE_ORDER = 4

/** Rings of a disk, as many as Linux's blkfront asks for. */
export const MAX_QUEUES = 4

/** Segments of an indirect request, as blkback offers: 1 MiB. */
export const MAX_SEGMENTS = 256

/** In the backend's directory, by the toolstack: what is to be served. */
export const toolstackNodes = defineNodes({
  params: {
    type: 'text',
    maxLength: 4096,
    default: '',
    writer: 'toolstack',
    meaning: 'names what is served, in words that toolstack and backend agree on',
  },
  mode: {
    type: 'text',
    maxLength: 8,
    writer: 'toolstack',
    meaning: 'without a "w" in it, the guest is to have the disk read-only',
  },
  'device-type': {
    type: 'text',
    maxLength: 32,
    default: 'disk',
    writer: 'toolstack',
    meaning: 'with "cdrom" the disk is a read-only one of that kind',
  },
  removable: {
    type: 'flag',
    default: false,
    writer: 'toolstack',
    meaning: 'the guest is to take the medium for removable',
  },
  'discard-enable': {
    type: 'flag',
    default: true,
    writer: 'toolstack',
    meaning: 'may offer discard, where the store has it',
  },
  'xenkit-sectors': {
    type: 'decimal',
    min: 1,
    max: MAX_SECTORS,
    default: undefined,
    writer: 'toolstack',
    meaning:
      'the size that the disk is to have, in units of 512 bytes; the answer is in xenkit-result',
  },
})

/** In the backend's directory, before InitWait: what a frontend may choose from. */
export const offerNodes = defineNodes({
  'max-ring-page-order': {
    type: 'decimal',
    max: 31,
    default: 0,
    writer: 'backend',
    meaning: 'most pages of the ring, as a power of two',
  },
  'multi-queue-max-queues': {
    type: 'decimal',
    min: 1,
    max: UINT32_MAX,
    default: 1,
    writer: 'backend',
    meaning: 'most rings',
  },
  'feature-max-indirect-segments': {
    type: 'decimal',
    max: UINT32_MAX,
    default: 0,
    writer: 'backend',
    meaning: 'most segments of a BLKIF_OP_INDIRECT; 0: there is no such operation',
  },
})

/** What makes no sense is read as NaN, and ignored: no reason to do without the disk. */
const HINT = {
  type: 'decimal',
  max: UINT32_MAX,
  default: 0,
  otherwise: NaN,
  writer: 'backend',
} as const

/** In the backend's directory, with the offer and, as they are then, before Connected. */
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
    meaning:
      'smallest unit of a request, in bytes; all numbers of sectors are of 512 bytes nevertheless',
  },
  'physical-sector-size': {
    ...HINT,
    meaning: 'unit below which a write makes the medium read first, in bytes; 0 for sector-size',
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
    meaning: 'bytes that are discarded together; 0 for sector-size',
  },
  'discard-alignment': {
    ...HINT,
    meaning: 'where the first of them begins, in bytes',
  },
  'discard-secure': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'heeds BLKIF_DISCARD_SECURE',
  },
  'feature-persistent': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'keeps pages mapped that were granted once',
  },
})

/**
 * In the frontend's directory, before Initialised, together with the nodes of its rings: see
 * `diskRingNodes`.
 */
export const frontendNodes = defineNodes({
  'ring-page-order': {
    type: 'decimal',
    max: MAX_RING_PAGE_ORDER,
    default: undefined,
    writer: 'frontend',
    meaning:
      'pages of a ring as a power of two; if there is such a node, their references are in ring-ref0 and on, even for one page',
  },
  protocol: {
    type: 'enum',
    values: Object.values(XEN_IO_PROTO_ABI),
    default: undefined,
    writer: 'frontend',
    meaning: 'whose layout of the structures the frontend uses',
  },
  'multi-queue-num-queues': {
    type: 'decimal',
    min: 1,
    max: MAX_QUEUES,
    default: 1,
    writer: 'frontend',
    meaning: 'rings; those of several are in directories queue-0 and on',
  },
  'feature-persistent': {
    type: 'flag',
    default: false,
    writer: 'frontend',
    meaning: 'uses the same pages again, and grants them writable',
  },
  'feature-large-sector-size': {
    type: 'flag',
    default: false,
    writer: 'frontend',
    meaning: 'takes numbers of sectors for units of sector-size: deprecated',
  },
})

/** Where a frontend's rings are, how they are laid out, and what it can do. */
export interface FrontendRings {
  readonly rings: readonly PublishedRing[]
  readonly abi: Abi
  readonly persistent: boolean
  readonly largeSectors: boolean
}

/**
 * Where a frontend publishes the rings of a disk.
 * @param order pages of each as a power of two, as `ring-page-order` says, or undefined without it
 */
export const diskRingNodes = (queues: number, order: number | undefined): RingNodes[] =>
  queueDirectories(queues).map((directory) => ({ directory, order }))

/** @throws NegotiationError naming the node that is missing or holds what can't be used */
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
 * The layout that a frontend uses. One that doesn't say uses the backend's own (blkif.h). On x86 it
 * is taken for a 32-bit one, as by blkback and QEMU: all others that are known write the node.
 * @param arch of this machine; all but x86 align numbers of 64 bits, as Arm does
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
