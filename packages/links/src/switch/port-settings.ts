/** `PortSettings`: what a port of a switch may send and receive. */
import type { Card } from '@xenkit/frames'
import { expectInteger } from '@xenkit/hypervisor'
import { expectMac } from '../addresses.ts'
import { PortGuard } from './port-guard.ts'
import { type PortVlan, VlanMembership } from './vlan.ts'

/** Options of a switch's port. All but the name can be changed while it is in use. */
export interface PortOptions {
  /** VLANs of the port. Default: `{ access: 1 }`. */
  readonly vlan?: PortVlan
  /** Whether it only reaches ports that aren't isolated. Default false. */
  readonly isolated?: boolean
  /**
   * MAC addresses that the guest may send from, as in 00:16:3e:01:02:03. Other ports can't use them
   * in the same VLANs, unless they name them too. With `'card'`, it is the address that the
   * toolstack gave to the card. Default: any address.
   */
  readonly macs?: 'card' | readonly string[]
  /**
   * IPv4 and IPv6 addresses that the guest may send from, or ranges such as 10.0.0.0/24. The guest
   * then sends IP and ARP alone. Addresses of a version that has none here are dropped. If there
   * are IPv6 addresses, the link-local ones that belong to `macs` are allowed too. Default: any
   * address.
   */
  readonly ips?: readonly string[]
  /** Most addresses that the switch learns at this port, 1..1048576, default 1024. */
  readonly maxAddresses?: number
}

const MAX_ADDRESSES = 2 ** 20

/** Options of a port, checked. */
export class PortSettings {
  readonly options: PortOptions
  readonly vlans: VlanMembership
  readonly isIsolated: boolean
  readonly maxAddresses: number
  /** Addresses that belong to the port. */
  readonly macs: readonly Uint8Array[]
  /** Undefined if all addresses are allowed. */
  readonly guard: PortGuard | undefined

  /**
   * @param card card in the port, if there is one
   * @throws RangeError for an option that isn't valid
   */
  constructor(options: PortOptions, card: Card | undefined) {
    const { vlan = { access: 1 }, isolated = false, macs, ips, maxAddresses = 1024 } = options
    expectInteger('maxAddresses', maxAddresses, 1, MAX_ADDRESSES)
    this.options = options
    this.vlans = new VlanMembership(vlan)
    this.isIsolated = isolated
    this.maxAddresses = maxAddresses
    const named = macs === 'card' ? card && [addressOf(card)] : macs?.map(expectMac)
    this.macs = named ?? []
    this.guard = macs || ips ? new PortGuard(macs && this.macs, ips) : undefined
  }
}

function addressOf({ name, mac }: Card): Uint8Array {
  if (!mac) throw new RangeError(`the toolstack gave no MAC address to card "${name}"`)
  return mac
}
