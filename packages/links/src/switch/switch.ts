/** `openSwitch`: a switch between cards and other links, within the process. */
import type { Card, Frames, Link, PluggedLink } from '@xenkit/frames'
import { expectInteger, failuresOf, firstOf } from '@xenkit/hypervisor'
import { u16, u32 } from '../bytes.ts'
import { AddressBook } from './address-book.ts'
import { Delivery } from './delivery.ts'
import type { PortOptions } from './port-settings.ts'
import { NO_VLAN } from './vlan.ts'
import { Port, type PortOwner, type SwitchPort } from './switch-port.ts'
import { type UplinkOptions, plugUplink } from './uplink.ts'

/** Options of `openSwitch`. */
export interface SwitchOptions {
  /** Time after which an address that sends nothing is forgotten, in ms, default 300,000. */
  readonly ageingMs?: number
}

/**
 * Ends may answer from within their `send`, so sends are nested. Frames of sends nested this deep
 * are dropped: two ends that answer each other would never return.
 */
const MAX_DEPTH = 8
const MAX_AGEING_MS = 2 ** 40
/** Addresses 01:80:c2:00:00:00 to :0f are the switch's own: PAUSE, spanning trees, LLDP. */
const RESERVED_HIGH = 0x0180
const RESERVED_LOW = 0xc200_0000

/** Opens a switch without ports. @throws RangeError for an option that isn't valid */
export const openSwitch = (options?: SwitchOptions): Switch => new Switch(options)

/**
 * A switch. Closing it closes its ports. As a link it takes any number of cards: each gets a port
 * with default options.
 */
export class Switch implements Link, AsyncDisposable {
  readonly #ports = new Set<Port>()
  readonly #addresses: AddressBook
  readonly #deliveries: Delivery[] = []
  #depth = 0

  /** @throws RangeError for an option that isn't valid */
  constructor({ ageingMs = 300_000 }: SwitchOptions = {}) {
    expectInteger('ageingMs', ageingMs, 1, MAX_AGEING_MS)
    this.#addresses = new AddressBook(ageingMs)
  }

  plug(card: Card): PluggedLink | Promise<PluggedLink> {
    return this.ports().plug(card)
  }

  /**
   * Returns a link that takes any number of cards. Each gets a port of its own, which is removed
   * when the card is unplugged.
   */
  ports(options: PortOptions = {}): Link {
    return {
      plug: (card) => {
        const port = this.#open(options)
        try {
          return { ...port.plug(card), close: () => port.close() }
        } catch (error) {
          void port.close()
          throw error
        }
      },
    }
  }

  /** Adds a port for a card. @throws RangeError for an option that isn't valid */
  port(options: PortOptions = {}): SwitchPort {
    return this.#open(options)
  }

  /**
   * Adds a port and plugs it into a link, such as a TAP device.
   * @throws RangeError for an option that isn't valid
   * @throws Error of the link
   */
  async uplink(link: Link, options: UplinkOptions = {}): Promise<SwitchPort> {
    const port = this.#open(options)
    try {
      await plugUplink(port, link, options)
    } catch (error) {
      await port.close()
      throw error
    }
    return port
  }

  /**
   * Closes all ports. @throws Error of the first uplink that couldn't be closed, after all others
   */
  async close(): Promise<void> {
    const failures = await failuresOf([...this.#ports].map((port) => port.close()))
    if (failures.length > 0) throw firstOf(failures)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #open(options: PortOptions): Port {
    const port = new Port(this.#owner, options)
    this.#ports.add(port)
    this.#owner.update(port)
    return port
  }

  readonly #owner: PortOwner = {
    forward: (from, frames) => this.#forward(from, frames),
    forget: (port) => this.#addresses.forget(port),
    update: (port) => {
      this.#addresses.forget(port)
      this.#addresses.name(port, port.settings.macs)
    },
    remove: (port) => {
      this.#addresses.forget(port)
      this.#addresses.name(port, [])
      this.#ports.delete(port)
    },
  }

  #forward(from: Port, frames: Frames): void {
    const depth = this.#depth
    from.stats.received += frames.count
    if (depth === MAX_DEPTH) {
      from.stats.nested += frames.count
      return
    }
    const delivery = (this.#deliveries[depth] ??= new Delivery(depth))
    const now = performance.now()
    this.#addresses.age(now)
    this.#depth++
    try {
      for (let i = 0; i < frames.count; i++) this.#route(from, frames, i, delivery, now)
      delivery.flush()
    } finally {
      this.#depth--
    }
  }

  #route(from: Port, frames: Frames, i: number, delivery: Delivery, now: number): void {
    const { memory } = frames
    const at = frames.start[i] ?? 0
    const { settings, stats } = from
    delivery.begin(from, frames, i)
    const { vlan } = delivery
    if (vlan === NO_VLAN) stats.wrongVlan++
    else if (!isCard(memory, at + SOURCE) || isReserved(memory, at)) stats.invalid++
    else if (settings.guard?.allows(frames, i) === false) stats.spoofed++
    else if (!this.#addresses.learn(from, vlan, memory, at + SOURCE, now)) stats.spoofed++
    else {
      const to = isGroup(memory, at) ? undefined : this.#addresses.find(vlan, memory, at, now)
      if (to === undefined) this.#flood(from, frames, i, delivery)
      else if (to !== from) this.#deliver(from, to, frames, i, delivery)
    }
  }

  #flood(from: Port, frames: Frames, i: number, delivery: Delivery): void {
    for (const to of this.#ports) {
      if (to === from || !to.isUp || !to.settings.vlans.carries(delivery.vlan)) continue
      if (from.settings.isIsolated && to.settings.isIsolated) continue
      if (!delivery.add(to, frames, i)) from.stats.wrongVlan++
    }
  }

  #deliver(from: Port, to: Port, frames: Frames, i: number, delivery: Delivery): void {
    if (from.settings.isIsolated && to.settings.isIsolated) from.stats.isolated++
    else if (to.isUp && !delivery.add(to, frames, i)) from.stats.wrongVlan++
  }
}

/** Offset of a frame's source address. */
const SOURCE = 6

/** Whether an address is that of several cards. */
const isGroup = (memory: Uint8Array, at: number): boolean => ((memory[at] ?? 0) & 1) !== 0

/** Whether an address is that of one card: not a group's, nor all zeroes. */
const isCard = (memory: Uint8Array, at: number): boolean =>
  !isGroup(memory, at) && (u16(memory, at) !== 0 || u32(memory, at + 2) !== 0)

const isReserved = (memory: Uint8Array, at: number): boolean =>
  u16(memory, at) === RESERVED_HIGH && (u32(memory, at + 2) & 0xffff_fff0) >>> 0 === RESERVED_LOW
