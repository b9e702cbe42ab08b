/** What the checks of all features use: the server, the guest, and its card. */
import type { Dom0 } from '../../src/dom0/dom0.ts'
import type { RemoteProcess } from '../../src/dom0/remote-process.ts'
import type { Guest } from '../../src/guest/guest.ts'
import type { Feature } from './features.ts'

/** Shows one feature: runs `work` and prints the text that `work` returns. */
export type Row = (feature: Feature, work: () => Promise<string>) => Promise<void>

/** Addresses of a guest's first card, which is on dom0's bridge. */
export interface Addresses {
  readonly v4: string
  readonly v6: string
}

export interface Rig {
  readonly dom0: Dom0
  readonly guest: Guest
  readonly addresses: Addresses
  readonly server: RemoteProcess
  /** Number of the guest's first card. */
  readonly devid: number
  /** The server's statistics per card, and those of its links. */
  stats(): Promise<Record<string, Record<string, number | string>>>
}

/** dom0's bridge, on which the guests' first cards are, and dom0's addresses there. */
export const BRIDGE = 'br0'
export const dom0Addresses: Addresses = { v4: '10.0.0.1', v6: 'fd00::1' }

/** A card on dom0's bridge in xl's syntax: a TAP device, which Xen's script adds to the bridge. */
export const bridged = (last: number): string => `mac=${mac(last)},bridge=${BRIDGE}`

/** A card that lab/dom0/vif/main.ts plugs into the link of this name. */
export const linked = (last: number, link: string): string =>
  `mac=${mac(last)},bridge=${link},script=/bin/true`

const mac = (last: number): string => `00:16:3e:00:00:${String(last).padStart(2, '0')}`

/** Gives an interface an IPv6 address, which can be used at once. */
export async function addV6(guest: Guest, name: string, address: string): Promise<void> {
  await guest.run(
    `echo 0 > /proc/sys/net/ipv6/conf/${name}/accept_dad; ip addr add ${address}/64 dev ${name}`,
  )
}

/** Attaches a card by xl. Returns its number. */
export async function attach({ dom0, guest }: Rig, card: string): Promise<number> {
  await dom0.run(`xl network-attach ${guest.domid} ${card.replaceAll(',', ' ')}`)
  const [address = ''] = card.split(',')
  const list = await dom0.run(`xl network-list ${guest.domid} | grep ${address.slice(4)}`)
  return Number.parseInt(list, 10)
}

/** Attaches a card by xl, runs `work` with its interface, and detaches the card. */
export async function withCard(
  rig: Rig,
  o: { readonly card: string; readonly address: string },
  work: (name: string, devid: number) => Promise<string>,
): Promise<string> {
  const devid = await attach(rig, o.card)
  const name = `eth${devid}`
  await rig.guest.card(name, o.address)
  const said = await work(name, devid)
  await detach(rig, devid)
  return said
}

/** Detaches a card by xl, and waits until its interface is gone. */
export async function detach({ dom0, guest }: Rig, devid: number): Promise<void> {
  await dom0.run(`xl network-detach ${guest.domid} ${devid}`)
  await guest.cardGone(`eth${devid}`)
}
