/** Reads what a toolstack requests for a network card: libxl (libxl_nic.c), or `plugVif`. */
import { parseMac } from '@xenkit/frames'
import { NegotiationError, UINT32_MAX } from '@xenkit/hypervisor'
import {
  type DeviceAddress,
  type HotplugScript,
  backendDeviceNodes,
  backendPath,
  hotplugScript,
} from '@xenkit/xenbus'
import { type XenstoreReader, parseDecimal } from '@xenkit/xenstore-client'
import { toolstackNodes } from './nodes.ts'

/** A card that a toolstack asks to be served. */
export interface RequestedCard {
  readonly frontendDomid: number
  readonly devid: number
  /**
   * Name of the backend's interface, at most 15 characters: `vif1.0`, unless the toolstack says.
   */
  readonly name: string
  /** The guest's address as six bytes; undefined if the toolstack names none. */
  readonly mac: Uint8Array | undefined
  /** Bridge that the interface belongs to; undefined if the toolstack names none. */
  readonly bridge: string | undefined
  /** Whether a hotplug script adds the interface to the bridge: `prepares` if so. */
  readonly script: HotplugScript
  /**
   * Addresses and networks that the guest may use, as the toolstack wrote them: `10.0.0.2`,
   * `10.1.0.0/16`. Empty: any.
   */
  readonly ips: readonly string[]
  /** Most that the guest may send; undefined: no limit. */
  readonly rate: VifRate | undefined
  /** Most bytes of a packet without its Ethernet header, 68..65521. */
  readonly mtu: number
}

/** A limit of what a guest sends. */
export interface VifRate {
  /** Bytes in each period, 1..2^53 - 1. */
  readonly bytes: number
  /** Length of a period in microseconds, 1..4294967295. */
  readonly periodUs: number
}

/**
 * Reads the toolstack's nodes of a card.
 * @throws NegotiationError naming the node that is invalid
 */
export async function readRequestedCard(
  view: XenstoreReader,
  device: DeviceAddress,
): Promise<RequestedCard> {
  const { frontendDomid, devid } = device
  const path = backendPath(device)
  const [{ mac, bridge, vifname, ip, rate, mtu }, scriptPath] = await Promise.all([
    toolstackNodes.read(view, path),
    backendDeviceNodes.readNode(view, path, 'script'),
  ])
  const name = `vif${frontendDomid}.${devid}`
  const script = hotplugScript(scriptPath)
  return {
    frontendDomid,
    devid,
    // A script that prepares the interface expects this name, and then renames the interface.
    name: script === 'prepares' ? name : (vifname ?? name),
    mac: mac === undefined ? undefined : macOf(`${path}/mac`, mac),
    bridge,
    script,
    ips: ip.split(/\s+/).filter((address) => address !== ''),
    rate: rate === undefined ? undefined : rateOf(`${path}/rate`, rate),
    mtu,
  }
}

/** A request to copy a card's frames, or to end that. Undefined: as before. */
export interface WatchRequest {
  /** File or named pipe to capture to; empty: nowhere any more. */
  readonly capture?: string | undefined
  /** Where to mirror to, in words of the program that serves the card; empty: nowhere any more. */
  readonly mirror?: string | undefined
}

/**
 * Reads what a toolstack requests to be done with copies of a card's frames.
 * @throws NegotiationError naming the node that is invalid
 */
export async function readWatchRequest(
  view: XenstoreReader,
  device: DeviceAddress,
): Promise<WatchRequest> {
  const path = backendPath(device)
  const [capture, mirror] = await Promise.all([
    toolstackNodes.readNode(view, path, 'xenkit-capture'),
    toolstackNodes.readNode(view, path, 'xenkit-mirror'),
  ])
  return { capture, mirror }
}

/** The node's text of a rate. */
export const formatRate = ({ bytes, periodUs }: VifRate): string => `${bytes},${periodUs}`

function macOf(node: string, value: string): Uint8Array {
  const mac = parseMac(value)
  // A group address can't be a card's: no frame comes from one, and a switch would never learn it.
  if (mac && ((mac[0] ?? 0) & 1) === 0) return mac
  throw invalid(node, value, 'an address such as "00:16:3e:01:02:03", of one card')
}

/** As netback reads the node. A period of 0 means no limit there, and is accepted as such. */
function rateOf(node: string, value: string): VifRate | undefined {
  const [bytesText = '', periodText = '', ...rest] = value.split(',')
  const bytes = parseDecimal(bytesText, { max: Number.MAX_SAFE_INTEGER })
  const periodUs = parseDecimal(periodText, { max: UINT32_MAX })
  if (!bytes || periodUs === undefined || rest.length > 0) {
    throw invalid(node, value, 'bytes and microseconds, such as "500000,50000"')
  }
  return periodUs === 0 ? undefined : { bytes, periodUs }
}

function invalid(node: string, value: string, expected: string): NegotiationError {
  return new NegotiationError(`node "${node}" is "${value}", expected ${expected}`, {
    node,
    value,
    expected,
  })
}
