/** `AddressBook`: what a switch knows of addresses: where it saw them, and whose they are. */
import { u16, u32 } from '../bytes.ts'
import { AddressTable } from './address-table.ts'
import type { Port } from './switch-port.ts'

/**
 * Knows at which port an address is. Addresses that a port names belong to it, so that another port
 * can't take them, even while their owner is silent.
 */
export class AddressBook {
  readonly #seen = new AddressTable<Port>()
  readonly #named = new Map<number, Set<Port>>()
  readonly #ageingMs: number
  #sweepAt = 0

  constructor(ageingMs: number) {
    this.#ageingMs = ageingMs
  }

  /**
   * Notes that a frame came from an address. A port that has reached its limit learns no more, so
   * frames to its further addresses go to all ports.
   * @returns false if the address belongs to another port
   */
  learn(from: Port, vlan: number, memory: Uint8Array, at: number, now: number): boolean {
    const high = vlan * 0x1_0000 + u16(memory, at)
    const low = u32(memory, at + 2)
    const slot = this.#seen.find(high, low)
    const last = slot < 0 ? undefined : this.#seen.port(slot)
    if (last !== from) {
      if (!this.#mayUse(from, vlan, memory, at)) return false
      if (from.learned >= from.settings.maxAddresses) return true
      from.learned++
      if (last) last.learned--
    }
    this.#seen.set(high, low, from, now)
    return true
  }

  /** Port at which an address was seen within the ageing time. */
  find(vlan: number, memory: Uint8Array, at: number, now: number): Port | undefined {
    const slot = this.#seen.find(vlan * 0x1_0000 + u16(memory, at), u32(memory, at + 2))
    if (slot < 0 || now - this.#seen.seen(slot) > this.#ageingMs) return undefined
    return this.#seen.port(slot)
  }

  /** Forgets old addresses: now and then, so that few take room and it costs nothing. */
  age(now: number): void {
    if (now < this.#sweepAt) return
    this.#sweepAt = now + this.#ageingMs / 4
    this.#seen.keep((port, seen) => {
      const isKept = now - seen <= this.#ageingMs
      if (!isKept) port.learned--
      return isKept
    })
  }

  /** Forgets the addresses that were seen at a port. */
  forget(port: Port): void {
    if (port.learned === 0) return
    this.#seen.keep((other) => other !== port)
    port.learned = 0
  }

  /** Notes which addresses belong to a port. */
  name(port: Port, macs: readonly Uint8Array[]): void {
    for (const [key, ports] of this.#named) {
      if (ports.delete(port) && ports.size === 0) this.#named.delete(key)
    }
    const own = new Set(macs.map((mac) => keyOf(mac, 0)))
    for (const key of own) {
      const ports = this.#named.get(key) ?? new Set()
      this.#named.set(key, ports.add(port))
    }
    if (own.size === 0) return
    // Ports that use them already, but don't name them, may not any more.
    const { vlans } = port.settings
    this.#seen.keep((other, _, address, vlan) => {
      const isTaken = own.has(address) && vlans.carries(vlan)
      const isKept = !isTaken || this.#named.get(address)?.has(other) === true
      if (!isKept) other.learned--
      return isKept
    })
  }

  #mayUse(from: Port, vlan: number, memory: Uint8Array, at: number): boolean {
    const owners = this.#named.get(keyOf(memory, at))
    if (!owners || owners.has(from)) return true
    for (const { settings } of owners) if (settings.vlans.carries(vlan)) return false
    return true
  }
}

/** An address as a number, as the table of addresses has them. */
const keyOf = (memory: Uint8Array, at: number): number =>
  u16(memory, at) * 2 ** 32 + u32(memory, at + 2)
