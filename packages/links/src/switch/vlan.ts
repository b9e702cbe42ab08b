/** `VlanMembership`: which VLANs a port of a switch belongs to. */
import { expectInteger } from '@xenkit/hypervisor'

/** Largest number of a VLAN: 4095 is reserved. */
const MAX_VLAN = 4094

/** VLANs of a port. */
export type PortVlan =
  | {
      /** VLAN of the port, 1..4094. Its frames are untagged; tagged ones are dropped. */
      readonly access: number
    }
  | {
      /** VLANs whose frames are tagged, 1..4094 each, or all of them. */
      readonly trunk: readonly number[] | 'all'
      /** VLAN whose frames are untagged, 1..4094. Default: untagged frames are dropped. */
      readonly native?: number
    }

/** No VLAN. */
export const NO_VLAN = 0

/** VLANs of a port, for its frames. */
export class VlanMembership {
  readonly #isTrunk: boolean
  readonly #untagged: number
  readonly #carried = new Uint8Array(MAX_VLAN + 2)

  /** @throws RangeError for a number outside 1..4094 */
  constructor(vlan: PortVlan) {
    this.#isTrunk = 'trunk' in vlan
    const untagged = 'trunk' in vlan ? vlan.native : vlan.access
    if (untagged !== undefined) {
      expectInteger('trunk' in vlan ? 'vlan.native' : 'vlan.access', untagged, 1, MAX_VLAN)
      this.#carried[untagged] = 1
    }
    this.#untagged = untagged ?? NO_VLAN
    if (!('trunk' in vlan)) return
    if (vlan.trunk === 'all') this.#carried.fill(1, 1, MAX_VLAN + 1)
    else {
      for (const number of vlan.trunk) {
        expectInteger('vlan.trunk', number, 1, MAX_VLAN)
        this.#carried[number] = 1
      }
    }
  }

  /**
   * The VLAN of a frame that comes in, or NO_VLAN if the port doesn't take it.
   * @param tag number of its tag, 0 without a tag
   */
  of(tag: number): number {
    if (tag === 0) return this.#untagged
    return this.#isTrunk && this.#carried[tag] === 1 ? tag : NO_VLAN
  }

  /** Whether frames of this VLAN leave by the port. */
  carries(vlan: number): boolean {
    return this.#carried[vlan] === 1
  }

  /** Whether they leave with a tag. */
  isTagged(vlan: number): boolean {
    return vlan !== this.#untagged
  }
}
