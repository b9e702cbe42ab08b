/** Plugs network cards into domains without xl, as `xl network-attach` does (libxl_nic.c). */
import { formatMac } from '@xenkit/frames'
import { type DeviceAddress, changeDevice, plugDevice, unplugDevice } from '@xenkit/xenbus'
import type { XenstoreClient } from '@xenkit/xenstore-client'
import { toolstackNodes } from './nodes.ts'
import { type VifRate, type WatchRequest, formatRate } from './requested-card.ts'

/** Names a network card by its two domains and its number. */
export interface VifAddress {
  readonly frontendDomid: number
  readonly backendDomid: number
  /** Number of the card in its domain, from 0. */
  readonly devid: number
}

/** A network card to plug, for `plugVif`. */
export interface PlugVifOptions extends VifAddress {
  /** The guest's address as six bytes, not a group's. Default: a random one of Xen's range. */
  readonly mac?: Uint8Array
  /** Bridge that the backend's interface is to belong to. */
  readonly bridge?: string
  /** Name of the backend's interface, at most 15 characters. Default `vif<domid>.<devid>`. */
  readonly name?: string
  /** Addresses and networks that the guest may use. Default: any. */
  readonly ips?: readonly string[]
  /** Most that the guest may send. Default: no limit. */
  readonly rate?: VifRate
  /** Most bytes of a packet without its Ethernet header, 68..65521. Default 1500. */
  readonly mtu?: number
  /** Only the `serveVif` with this reservation serves the card. */
  readonly reservation?: string
}

/**
 * Writes the nodes of a new network card. A backend of the backend domain then serves it.
 * @throws RangeError for a value outside its range
 * @throws ToolstackError if the domain doesn't exist or already has a card of this number
 */
export async function plugVif(xs: XenstoreClient, o: PlugVifOptions): Promise<void> {
  const { devid, mtu = 1500, ips = [] } = o
  const mac = formatMac(o.mac ?? randomMac())
  const handle = String(devid)
  await plugDevice(xs, {
    ...deviceAddress(o),
    ...(o.reservation === undefined ? {} : { reservation: o.reservation }),
    frontend: { handle, mac, mtu: String(mtu), trusted: '1' },
    backend: {
      ...toolstackNodes.format({
        mac,
        bridge: o.bridge,
        vifname: o.name,
        ip: ips.length === 0 ? undefined : ips.join(' '),
        rate: o.rate && formatRate(o.rate),
        mtu,
        type: 'vif',
      }),
      handle,
      script: '/bin/true',
    },
  })
}

/**
 * Unplugs a network card: see `unplugDevice`.
 * @param o.signal ends the wait for the backend: the nodes are then removed at once
 */
export async function unplugVif(
  xs: XenstoreClient,
  address: VifAddress,
  o: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  await unplugDevice(xs, deviceAddress(address), o)
}

/**
 * Asks the xenkit server of a card to capture or to mirror its frames, or to end that.
 * @param o.signal ends the wait for the answer
 * @throws RangeError for a text of more than 1024 bytes
 * @throws ToolstackError with the server's reason if it refuses
 */
export async function watchVif(
  xs: XenstoreClient,
  address: VifAddress,
  { signal, capture, mirror }: WatchRequest & { readonly signal?: AbortSignal },
): Promise<void> {
  const nodes = toolstackNodes.format({ 'xenkit-capture': capture, 'xenkit-mirror': mirror })
  await changeDevice(xs, deviceAddress(address), nodes, signal ? { signal } : {})
}

/** A random address with Xen's prefix; libxl leaves the first bit after it 0 too. */
function randomMac(): Uint8Array {
  const mac = crypto.getRandomValues(new Uint8Array(6))
  mac.set([0x00, 0x16, 0x3e, (mac[3] ?? 0) & 0x7f])
  return mac
}

const deviceAddress = ({ frontendDomid, backendDomid, devid }: VifAddress) =>
  ({ type: 'vif', frontendDomid, backendDomid, devid }) satisfies DeviceAddress
