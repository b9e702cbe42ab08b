/**
 * The xenstore nodes of a network card, by writer. They follow xen/include/public/io/netif.h. Where
 * Linux's netback differs, they follow netback, which guests are tested with.
 *
 * A guest may write anything to the frontend's nodes: each is read once, when connecting, and
 * checked.
 */
import { NegotiationError, UINT32_MAX } from '@xenkit/hypervisor'
import { type PublishedRing, type RingNodes, queueDirectories, readRings } from '@xenkit/xenbus'
import { type NodeValuesOf, type XenstoreReader, defineNodes } from '@xenkit/xenstore-client'

/** Most queues of a card. netback offers as many as there are processors, at most 8. */
export const MAX_QUEUES = 8

/** Largest headroom of a received packet, in bytes: XEN_NETIF_MAX_XDP_HEADROOM of netif.h. */
export const MAX_XDP_HEADROOM = 0x7fff

/** Name of an interface: IFNAMSIZ is 16 with the terminating NUL. */
const INTERFACE = { type: 'text', maxLength: 15, default: undefined, writer: 'toolstack' } as const

/** A request, which is there until it is answered. A path has at most 1024 bytes. */
const WATCH = { type: 'text', maxLength: 1024, default: undefined, writer: 'toolstack' } as const

/** The toolstack's nodes in the backend's directory: how the card is to be plugged in. */
export const toolstackNodes = defineNodes({
  mac: {
    type: 'text',
    maxLength: 17,
    default: undefined,
    writer: 'toolstack',
    meaning: 'address of the guest, as in 00:16:3e:01:02:03',
  },
  bridge: {
    ...INTERFACE,
    meaning: 'bridge that the hotplug script adds the interface to',
  },
  vifname: {
    ...INTERFACE,
    meaning: "name of the backend's interface; default vif<domid>.<devid>",
  },
  ip: {
    type: 'text',
    maxLength: 1024,
    default: '',
    writer: 'toolstack',
    meaning: 'addresses that the guest may use, separated by spaces; empty: any',
  },
  rate: {
    type: 'text',
    maxLength: 32,
    default: undefined,
    writer: 'toolstack',
    meaning: 'bytes that the guest may send in each period, and the period in us, as in 1000,50000',
  },
  mtu: {
    type: 'decimal',
    min: 68,
    max: 65_521,
    default: 1500,
    writer: 'toolstack',
    meaning: 'most bytes of a packet without its Ethernet header',
  },
  type: {
    type: 'text',
    maxLength: 32,
    default: 'vif',
    writer: 'toolstack',
    meaning: 'vif, or vif_ioemu for a card that is also emulated: the protocol is the same',
  },
  'xenkit-capture': {
    ...WATCH,
    meaning:
      'file or named pipe of the server to capture to; empty to end it; the answer is in ' +
      'xenkit-result',
  },
  'xenkit-mirror': {
    ...WATCH,
    meaning:
      'where the server mirrors to, in words of its own; empty to end it; the answer is in ' +
      'xenkit-result',
  },
})

const FEATURE = { type: 'flag', default: false, writer: 'backend' } as const

/** The backend's nodes in its directory, written before InitWait. */
export const offerNodes = defineNodes({
  'feature-rx-copy': { ...FEATURE, meaning: 'received packets are copied into granted pages' },
  'feature-rx-flip': { ...FEATURE, meaning: 'pages are exchanged: never offered' },
  'feature-sg': { ...FEATURE, meaning: 'packets sent may take several slots' },
  'feature-gso-tcpv4': { ...FEATURE, meaning: 'takes TCP segments of up to 64 KiB, over IPv4' },
  'feature-gso-tcpv6': { ...FEATURE, meaning: 'the same over IPv6' },
  'feature-ipv6-csum-offload': {
    ...FEATURE,
    meaning: 'takes IPv6 packets with a blank checksum; for IPv4 that is always so',
  },
  'feature-multicast-control': {
    ...FEATURE,
    meaning: 'understands extra infos that add and remove multicast addresses',
  },
  'feature-dynamic-multicast-control': {
    ...FEATURE,
    meaning: 'watches request-multicast-control while connected',
  },
  'feature-xdp-headroom': { ...FEATURE, meaning: 'leaves room before received packets' },
  'feature-split-event-channels': {
    ...FEATURE,
    meaning: 'sending and receiving may have an event channel each',
  },
  'feature-ctrl-ring': { ...FEATURE, meaning: 'understands the control ring' },
  'multi-queue-max-queues': {
    type: 'decimal',
    min: 1,
    max: UINT32_MAX,
    default: 1,
    writer: 'backend',
    meaning: 'most queues of the card',
  },
})

/** The backend's nodes in its directory, written with Connected and whenever they change. */
export const linkNodes = defineNodes({
  carrier: {
    type: 'flag',
    default: true,
    writer: 'backend',
    meaning: 'whether the link is up, as a plugged-in cable is',
  },
})

const FRONT_FEATURE = { type: 'flag', default: false, writer: 'frontend' } as const

/** The frontend's nodes in its directory, besides those of its rings: see `readFrontendRings`. */
export const frontendNodes = defineNodes({
  'multi-queue-num-queues': {
    type: 'decimal',
    min: 1,
    max: MAX_QUEUES,
    default: 1,
    writer: 'frontend',
    meaning: 'number of queues; if several, their nodes are in directories queue-0 and on',
  },
  'request-rx-copy': { ...FRONT_FEATURE, meaning: 'required: received packets are copied' },
  'feature-rx-notify': {
    ...FRONT_FEATURE,
    meaning: 'notifies when it has posted buffers, so the backend may wait for them',
  },
  'feature-sg': { ...FRONT_FEATURE, meaning: 'received packets may take several slots' },
  'feature-gso-tcpv4': { ...FRONT_FEATURE, meaning: 'takes TCP segments over IPv4' },
  'feature-gso-tcpv6': { ...FRONT_FEATURE, meaning: 'takes TCP segments over IPv6' },
  'feature-no-csum-offload': {
    ...FRONT_FEATURE,
    meaning: "doesn't take IPv4 packets with a blank checksum",
  },
  'feature-ipv6-csum-offload': {
    ...FRONT_FEATURE,
    meaning: 'takes IPv6 packets with a blank checksum',
  },
  'request-multicast-control': {
    ...FRONT_FEATURE,
    meaning: 'wants only multicast packets whose address it has added',
  },
  'xdp-headroom': {
    type: 'decimal',
    max: MAX_XDP_HEADROOM,
    default: 0,
    writer: 'frontend',
    meaning: 'bytes to leave free before a received packet',
  },
})

/** Ring and port of sending, and of receiving. Both ports are the same unless they are split. */
export interface PublishedQueue {
  readonly tx: PublishedRing
  readonly rx: PublishedRing
}

/** What a frontend takes in received packets, and how it wants them. */
export interface FrontendFeatures {
  readonly sg: boolean
  readonly gso4: boolean
  readonly gso6: boolean
  readonly checksum4: boolean
  readonly checksum6: boolean
  readonly rxNotify: boolean
  /** Wants only multicast packets whose address it has added. */
  readonly multicastControl: boolean
  /** Bytes to leave free before a received packet, 0..32767. */
  readonly xdpHeadroom: number
}

/** A frontend's rings and its features. */
export interface FrontendRings {
  readonly queues: readonly PublishedQueue[]
  /** The control ring, if the frontend has one. */
  readonly control: PublishedRing | undefined
  readonly features: FrontendFeatures
}

/** The control ring's nodes. */
export const CONTROL_NODES = { ref: 'ctrl-ring-ref', port: 'event-channel-ctrl' } as const

/** Node that shows that a queue's two rings have an event channel each. */
const SPLIT_PORT = 'event-channel-tx'

const join = (...parts: readonly string[]): string => parts.filter((part) => part !== '').join('/')

/** The nodes of a queue's two rings. @param split whether each ring has its own event channel */
export const queueNodes = (directory: string, split: boolean): readonly [RingNodes, RingNodes] => [
  { directory, ref: 'tx-ring-ref', ...(split ? { port: SPLIT_PORT } : {}) },
  { directory, ref: 'rx-ring-ref', ...(split ? { port: 'event-channel-rx' } : {}) },
]

/**
 * Reads and checks what a frontend published.
 *
 * @param path the frontend's directory
 * @param offered most queues that it was offered
 * @throws NegotiationError naming the node that is missing or invalid
 */
export async function readFrontendRings(
  view: XenstoreReader,
  path: string,
  offered: number,
): Promise<FrontendRings> {
  const nodes = await frontendNodes.read(view, path)
  if (!nodes['request-rx-copy']) throw refusedFlip(path)
  const count = nodes['multi-queue-num-queues']
  if (count > offered) throw tooManyQueues(path, count, offered)
  const directories = queueDirectories(count)
  const [split, hasControl] = await Promise.all([
    Promise.all(directories.map((directory) => view.exists(join(path, directory, SPLIT_PORT)))),
    view.exists(join(path, CONTROL_NODES.ref)),
  ])
  const names = directories.flatMap((directory, i) => queueNodes(directory, split[i] === true))
  // One call for all rings: it refuses a page or port that two of them name.
  const rings = await readRings(view, path, hasControl ? [...names, CONTROL_NODES] : names)
  const control = hasControl ? rings.at(-1) : undefined
  const queues = directories.flatMap((_, i) => {
    const [tx, rx] = rings.slice(2 * i, 2 * i + 2)
    return tx && rx ? [{ tx, rx }] : []
  })
  return { queues, control, features: featuresOf(nodes) }
}

/**
 * Reads the features of a frontend, which it may change while it is connected.
 * @param path the frontend's directory
 * @throws NegotiationError naming a node that is invalid
 */
export const readFeatures = async (view: XenstoreReader, path: string): Promise<FrontendFeatures> =>
  featuresOf(await frontendNodes.read(view, path))

/** Checksums have opposite defaults: IPv4's is on, IPv6's is off. */
function featuresOf(nodes: NodeValuesOf<typeof frontendNodes.definitions>): FrontendFeatures {
  return {
    sg: nodes['feature-sg'],
    gso4: nodes['feature-gso-tcpv4'],
    gso6: nodes['feature-gso-tcpv6'],
    checksum4: !nodes['feature-no-csum-offload'],
    checksum6: nodes['feature-ipv6-csum-offload'],
    rxNotify: nodes['feature-rx-notify'],
    multicastControl: nodes['request-multicast-control'],
    xdpHeadroom: nodes['xdp-headroom'],
  }
}

function refusedFlip(path: string): NegotiationError {
  const node = `${path}/request-rx-copy`
  const reason = "the frontend wants pages exchanged, which this backend doesn't do"
  return new NegotiationError(`node "${node}" expected "1": ${reason}`, {
    node,
    value: undefined,
    expected: '1',
  })
}

function tooManyQueues(path: string, count: number, offered: number): NegotiationError {
  const node = `${path}/multi-queue-num-queues`
  const expected = `a number 1..${offered}`
  return new NegotiationError(`node "${node}" holds "${count}", expected ${expected}`, {
    node,
    value: String(count),
    expected,
  })
}

/** All rings that a frontend published. */
export const publishedRings = ({ queues, control }: FrontendRings): readonly PublishedRing[] => [
  ...queues.flatMap(({ tx, rx }) => [tx, rx]),
  ...(control ? [control] : []),
]
