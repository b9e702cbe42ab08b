/** Reads what a toolstack requests for a network card: libxl (libxl_nic.c), or `plugVif`. */
import { type DeviceAddress, backendPath } from '@xenkit/xenbus'
import type { XenstoreReader } from '@xenkit/xenstore-client'
import { toolstackNodes } from './nodes.ts'

/** A card that a toolstack asks to be served. */
export interface RequestedCard {
  readonly frontendDomid: number
  readonly devid: number
  /** Name of the backend's interface, at most 15 characters: `vif1.0`, unless the toolstack says. */
  readonly name: string
  /** The guest's address as six bytes; undefined if the toolstack names none. */
  readonly mac: Uint8Array | undefined
  /** Bridge that the interface belongs to; undefined if the toolstack names none. */
  readonly bridge: string | undefined
  /** Addresses that the guest may use, as the toolstack wrote them; empty: any. */
  readonly ips: readonly string[]
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
  const { mac, bridge, vifname, ip } = await toolstackNodes.read(view, backendPath(device))
  return {
    frontendDomid,
    devid,
    name: vifname ?? `vif${frontendDomid}.${devid}`,
    mac: mac === undefined ? undefined : parseMac(mac),
    bridge,
    ips: ip.split(' ').filter((address) => address !== ''),
  }
}

/** @returns six bytes, or undefined if the text is no address */
function parseMac(text: string): Uint8Array | undefined {
  if (!/^[\da-f]{2}(:[\da-f]{2}){5}$/i.test(text)) return undefined
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16))
}
