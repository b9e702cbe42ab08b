/**
 * Connects a network frontend: for simulated guests, for tests of any backend, and to use networks
 * that another domain serves to this one.
 */
import { type Frames, NO_OFFLOADS, type Offloads, parseMac } from '@xenkit/frames'
import {
  type Hypervisor,
  NegotiationError,
  Owner,
  UINT32_MAX,
  expectHypervisor,
  expectInteger,
  failuresOf,
  firstOf,
} from '@xenkit/hypervisor'
import { FrontendDevice, type NodeValues } from '@xenkit/xenbus'
import { XenbusState } from '@xenkit/wire'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import {
  CONTROL_NODES,
  MAX_QUEUES,
  MAX_XDP_HEADROOM,
  linkNodes,
  frontendNodes,
  offerNodes,
  queueNodes,
  toolstackNodes,
} from '../nodes.ts'
import { ControlClient } from './control-client.ts'
import { type OpenedQueues, openQueues } from './open-queues.ts'
import { RxRing } from './rx-ring.ts'
import { TxRing } from './tx-ring.ts'
import { VifQueue } from './vif-queue.ts'
import { zeroCounts } from './vif-counts.ts'
import { Vif, VifClosedError } from './vif.ts'

/** Which network card to open, and how. */
export interface OpenVifOptions {
  /** Number of the card in this domain: 0 for the first. */
  readonly devid: number
  /** Queues, 1..8; at most as many as the backend offers. Default 1. */
  readonly queues?: number
  /** Incomplete frames that this side takes. Default NO_OFFLOADS: received frames are complete. */
  readonly offloads?: Offloads
  /**
   * Whether sending and receiving have an event channel each. Default: if the backend offers it.
   */
  readonly splitChannels?: boolean
  /**
   * Whether the backend keeps this side's pages mapped, if it can: it then copies without the
   * hypervisor. Default true.
   */
  readonly staticGrants?: boolean
  /** Whether to receive only multicast frames to addresses of `Vif.setMulticast`. Default false. */
  readonly multicastControl?: boolean
  /** Bytes that the backend leaves free before each received frame, 0..32767. Default 0. */
  readonly xdpHeadroom?: number
  /** Ends the wait for the backend. */
  readonly signal?: AbortSignal
}

/** How long a backend may take to release the rings of a card that failed to open, in ms. */
const CLOSE_TIMEOUT_MS = 1_000

/**
 * Opens a network card of this domain: waits for its backend and connects to it. Follows
 * xen/include/public/io/netif.h. A failure leaves nothing open: if the backend has mapped the rings
 * by then, it is asked to close and given one second.
 * @throws TypeError if `hv` is no hypervisor
 * @throws RangeError for an option out of range, or one that the backend doesn't offer
 * @throws NegotiationError if the backend publishes an invalid node, or closes instead
 * @throws the signal's reason if it aborts
 */
export async function openVif(hv: Hypervisor, o: OpenVifOptions): Promise<Vif> {
  expectHypervisor(hv)
  const { devid, offloads = NO_OFFLOADS, queues: count = 1, staticGrants = true } = o
  expectInteger('devid', devid, 0, UINT32_MAX)
  expectInteger('queues', count, 1, MAX_QUEUES)
  expectInteger('xdpHeadroom', o.xdpHeadroom ?? 0, 0, MAX_XDP_HEADROOM)
  const waiting = o.signal ? { signal: o.signal } : {}

  const owner = new Owner()
  const xs = owner.own(await openXenstore(hv.xenstore))
  /** Set once the backend may have seen the rings. */
  let published: FrontendDevice | undefined
  const close = async (signal: AbortSignal): Promise<unknown[]> => {
    const unclosed = published ? await failuresOf([published.close({ signal })]) : []
    return [...unclosed, ...owner.closeEach()]
  }
  try {
    const device = await FrontendDevice.open(xs, { domid: hv.domid, type: 'vif', devid }, waiting)
    const offered = await readOffered(xs, device, o)
    const { mac, mtu } = await toolstackNodes.read(xs, device.path)
    const opened = openQueues(hv, owner, {
      domid: device.backendDomid,
      queues: count,
      split: o.splitChannels ?? offered['feature-split-event-channels'],
      control: offered['feature-ctrl-ring'],
    })
    const nodes = { ...opened.nodes, ...featureNodes(o, offloads) }
    await removeStale(xs, device.path, nodes)
    const counts = zeroCounts()
    const arena = new Uint8Array(hv.arena.buffer)
    const gso = [true, offered['feature-gso-tcpv4'], offered['feature-gso-tcpv6']]
    const sg = offered['feature-sg']
    const queues = opened.queues.map(({ tx, rx, txPages, rxPages, inbox }, i) => {
      const received = (frames: Frames): void => vif.received(frames, i)
      return new VifQueue(
        new TxRing({ opened: tx, pages: txPages, arena, sg, gso, counts }),
        new RxRing({ opened: rx, pages: rxPages, inbox, arena, counts, received }),
      )
    })
    const control = opened.control && new ControlClient(opened.control)
    const vif = new Vif({
      devid,
      mac: mac === undefined ? undefined : parseMac(mac),
      mtu,
      offloads: {
        checksum4: offered.checksum4,
        checksum6: offered['feature-ipv6-csum-offload'],
        gso4: offered['feature-gso-tcpv4'],
        gso6: offered['feature-gso-tcpv6'],
      },
      queues,
      control,
      counts,
      async setXdpHeadroom(bytes, options) {
        const node = 'feature-xdp-headroom'
        if (!offered[node]) throw notOffered('xdpHeadroom', node)
        await device.reconfigure(frontendNodes.format({ 'xdp-headroom': bytes }), options)
      },
      async close(signal) {
        const errors = await close(signal)
        if (errors.length > 0) throw firstOf(errors)
      },
    })
    published = device
    // A network backend waits for this state: it takes no notice of Initialised.
    await device.publish(nodes, XenbusState.Connected)
    await device.connected(waiting)
    // netback reads the node when this side reconfigures, not when it connects.
    if (o.xdpHeadroom) await vif.setXdpHeadroom(o.xdpHeadroom, waiting)
    vif.start()
    if (control && staticGrants) await addStaticGrants(control, opened)
    const lost = (error: unknown): void => vif.lost(error)
    // A backend that closes waits until this side has closed. The xenstore connection ends with the
    // card.
    device.backendClosing().then(() => lost(new VifClosedError(devid)), lost)
    followCarrier(xs, device.backendPath, vif).catch(lost)
    return vif
  } catch (error) {
    throw firstOf([error, ...(await close(AbortSignal.timeout(CLOSE_TIMEOUT_MS)))])
  }
}

/** What the backend offers, and whether it takes IPv4 frames with a blank checksum. */
async function readOffered(xs: XenstoreClient, { backendPath }: FrontendDevice, o: OpenVifOptions) {
  const [offered, noChecksum4] = await Promise.all([
    offerNodes.read(xs, backendPath),
    frontendNodes.readNode(xs, backendPath, 'feature-no-csum-offload'),
  ])
  if (!offered['feature-rx-copy']) {
    const node = `${backendPath}/feature-rx-copy`
    throw new NegotiationError(
      `node "${node}" expected "1": the backend can only exchange pages, not copy`,
      { node, value: undefined, expected: '1' },
    )
  }
  const most = offered['multi-queue-max-queues']
  if ((o.queues ?? 1) > most) {
    const got = `got ${o.queues}`
    throw new RangeError(`"queues" expected at most ${most}, which the backend offers, ${got}`)
  }
  for (const [option, node] of OPTIONAL) {
    if (o[option] && !offered[node]) throw notOffered(option, node)
  }
  return { ...offered, checksum4: !noChecksum4 }
}

const notOffered = (option: string, node: string): RangeError =>
  new RangeError(`"${option}" needs the node ${node}, which the backend doesn't offer`)

/** Options that a backend may not offer, and the node that says whether it does. */
const OPTIONAL = [
  ['splitChannels', 'feature-split-event-channels'],
  ['multicastControl', 'feature-multicast-control'],
  ['xdpHeadroom', 'feature-xdp-headroom'],
] as const

/** The nodes that tell the backend what this side takes. Each is written, even if it is off. */
const featureNodes = (o: OpenVifOptions, offloads: Offloads): Record<string, string> =>
  frontendNodes.format({
    'multi-queue-num-queues': o.queues ?? 1,
    'request-rx-copy': true,
    'feature-rx-notify': true,
    'feature-sg': true,
    'feature-gso-tcpv4': offloads.gso4,
    'feature-gso-tcpv6': offloads.gso6,
    // IPv4's default is the inverse of IPv6's.
    'feature-no-csum-offload': !offloads.checksum4,
    'feature-ipv6-csum-offload': offloads.checksum6,
    'request-multicast-control': o.multicastControl ?? false,
    'xdp-headroom': o.xdpHeadroom ?? 0,
  })

/**
 * Removes what an earlier connection with other rings may have left: a backend prefers split
 * channels to a joint one, and maps the control ring if there is one.
 */
async function removeStale(xs: XenstoreClient, path: string, nodes: NodeValues): Promise<void> {
  const flat = [true, false].flatMap((split) => queueNodes('', split))
  const names = [...flat, CONTROL_NODES].flatMap(({ ref, port = 'event-channel' }) => [ref, port])
  const stale = names.filter((name) => name !== undefined && !Object.hasOwn(nodes, name))
  const directories = Array.from({ length: MAX_QUEUES }, (_, i) => `queue-${i}`)
  await Promise.all([...stale, ...directories].map((name) => xs.rm(`${path}/${name}`)))
}

/** Offers the pages to send from first: copies from them are the smaller ones. */
async function addStaticGrants(control: ControlClient, { queues }: OpenedQueues): Promise<void> {
  for (const [i, { txPages, rxPages }] of queues.entries()) {
    await control.addStaticGrants(i, [txPages.grefs, rxPages.grefs])
  }
}

/** Follows the backend's carrier. Rejects when the connection ends, or for an invalid node. */
async function followCarrier(xs: XenstoreClient, backendPath: string, vif: Vif): Promise<never> {
  for (let up = true; ; up = !up) {
    await xs.wait(async (view) => {
      const carrier = await linkNodes.readNode(view, backendPath, 'carrier')
      return carrier === up ? undefined : true
    })
    vif.setLink(!up)
  }
}
