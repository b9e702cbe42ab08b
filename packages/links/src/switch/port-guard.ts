/**
 * `PortGuard`: whether the frames of a port come from the addresses that the toolstack names, in
 * their headers and in what ARP and IPv6 neighbour discovery (ND) tell others.
 */
import { EtherType, type Frames, Headers, IpProtocol, NO_PROTOCOL } from '@xenkit/frames'
import { type IpRange, parseIpRange } from '../addresses.ts'
import { u16, u32 } from '../bytes.ts'

/** Bytes of an ARP packet for Ethernet and IPv4. */
const ARP_BYTES = 28
/** Its first six bytes: hardware type 1, protocol 0x0800, lengths 6 and 4. */
const ARP_ETHERNET_IPV4 = [0x0001, 0x0800, 0x0604]
const ARP_REQUEST = 1

/** Types of ICMPv6 messages. */
const Icmp6 = {
  LISTENER_REPORT: 131,
  LISTENER_DONE: 132,
  ROUTER_SOLICITATION: 133,
  ROUTER_ADVERTISEMENT: 134,
  NEIGHBOUR_SOLICITATION: 135,
  NEIGHBOUR_ADVERTISEMENT: 136,
  LISTENER_REPORT_2: 143,
} as const

/** Types that a guest without an address yet sends, from the address "::". */
const FROM_NOBODY: readonly number[] = [
  Icmp6.LISTENER_REPORT,
  Icmp6.LISTENER_DONE,
  Icmp6.ROUTER_SOLICITATION,
  Icmp6.NEIGHBOUR_SOLICITATION,
  Icmp6.LISTENER_REPORT_2,
]

/**
 * Where the options begin in ND messages that tell link-layer addresses of their sender. A redirect
 * tells that of another.
 */
const OPTIONS_OF: Readonly<Record<number, number>> = {
  [Icmp6.ROUTER_SOLICITATION]: 8,
  [Icmp6.ROUTER_ADVERTISEMENT]: 16,
  [Icmp6.NEIGHBOUR_SOLICITATION]: 24,
  [Icmp6.NEIGHBOUR_ADVERTISEMENT]: 24,
}
/** Types of ND options that hold a link-layer address. */
const SOURCE_ADDRESS = 1
const TARGET_ADDRESS = 2

const DHCP_CLIENT = 68
const DHCP_SERVER = 67

/** Checks the frames of one port. */
export class PortGuard {
  /** Bytes of each address, if any are named. */
  readonly #macs: readonly Uint8Array[] | undefined
  readonly #ranges4: readonly IpRange[]
  readonly #ranges6: readonly IpRange[]
  readonly #checksIps: boolean
  readonly #headers = new Headers()

  /**
   * @param macs addresses to allow; undefined: all
   * @param ips IP addresses and ranges to allow; undefined: all
   * @throws RangeError for a text that isn't an address
   */
  constructor(macs: readonly Uint8Array[] | undefined, ips: readonly string[] | undefined) {
    this.#macs = macs
    this.#checksIps = ips !== undefined
    const ranges = (ips ?? []).map(parseIpRange)
    this.#ranges4 = ranges.filter(({ bytes }) => bytes.length === 4)
    const named6 = ranges.filter(({ bytes }) => bytes.length === 16)
    // Whoever has an IPv6 address needs a link-local one too, to find neighbours.
    const local = named6.length === 0 ? [] : (macs ?? []).map(linkLocal)
    this.#ranges6 = [...named6, ...local]
  }

  /** Whether the guest may send a frame. */
  allows(frames: Frames, index: number): boolean {
    const { memory } = frames
    const start = frames.start[index] ?? 0
    if (!this.#hasMac(memory, start + 6)) return false
    const headers = this.#headers
    const gso = frames.gso[index] !== 0
    const isWellFormed = headers.parse(memory, start, frames.length[index] ?? 0, gso)
    switch (headers.ethertype) {
      case EtherType.ARP:
        return this.#allowsArp(memory, start)
      case EtherType.IPV4:
        return !this.#checksIps || (isWellFormed && this.#allowsIpv4(memory, start))
      case EtherType.IPV6:
        return isWellFormed && this.#allowsIpv6(memory, start)
      default:
        // Whatever else may hold IP packets that can't be checked.
        return isWellFormed && !this.#checksIps
    }
  }

  #allowsArp(memory: Uint8Array, start: number): boolean {
    const { l3, end } = this.#headers
    const at = start + l3
    if (l3 + ARP_BYTES > end) return false
    if (ARP_ETHERNET_IPV4.some((word, i) => u16(memory, at + 2 * i) !== word)) return false
    if (!this.#hasMac(memory, at + 8)) return false
    if (!this.#checksIps || isWithin(this.#ranges4, memory, at + 14)) return true
    // A probe asks whether an address is free before it is used, and names no sender.
    const isProbe = u16(memory, at + 6) === ARP_REQUEST && u32(memory, at + 14) === 0
    return isProbe && isWithin(this.#ranges4, memory, at + 24)
  }

  #allowsIpv4(memory: Uint8Array, start: number): boolean {
    const { l3, l4, protocol } = this.#headers
    if (isWithin(this.#ranges4, memory, start + l3 + 12)) return true
    return (
      this.#ranges4.length > 0 &&
      u32(memory, start + l3 + 12) === 0 &&
      protocol === IpProtocol.UDP &&
      l4 !== 0 &&
      u16(memory, start + l4) === DHCP_CLIENT &&
      u16(memory, start + l4 + 2) === DHCP_SERVER
    )
  }

  #allowsIpv6(memory: Uint8Array, start: number): boolean {
    const { l3, l4, protocol, end } = this.#headers
    const isIcmp = protocol === IpProtocol.ICMPV6 && l4 !== 0 && l4 + 4 <= end
    const type = isIcmp ? (memory[start + l4] ?? 0) : NO_PROTOCOL
    if (!this.#allowsDiscovery(memory, start, type)) return false
    if (!this.#checksIps || isWithin(this.#ranges6, memory, start + l3 + 8)) return true
    return this.#ranges6.length > 0 && isZero(memory, start + l3 + 8) && FROM_NOBODY.includes(type)
  }

  #allowsDiscovery(memory: Uint8Array, start: number, type: number): boolean {
    const { l3, l4, end, fragment } = this.#headers
    const options = OPTIONS_OF[type]
    if (options === undefined) return true
    // RFC 6980: the message's other parts would be in frames that can't be checked by themselves.
    if (fragment || l4 + options > end) return false
    if (!this.#allowsOptions(memory, start + l4 + options, start + end)) return false
    if (!this.#checksIps) return true
    const tellsTarget =
      type === Icmp6.NEIGHBOUR_ADVERTISEMENT ||
      // A probe asks whether an address is free before it is used.
      (type === Icmp6.NEIGHBOUR_SOLICITATION && isZero(memory, start + l3 + 8))
    return !tellsTarget || isWithin(this.#ranges6, memory, start + l4 + 8)
  }

  /** Whether the options between two places of the memory tell the guest's addresses alone. */
  #allowsOptions(memory: Uint8Array, from: number, to: number): boolean {
    for (let at = from; at < to;) {
      const bytes = 8 * (memory[at + 1] ?? 0)
      if (bytes === 0 || at + bytes > to) return false
      const type = memory[at] ?? 0
      if ((type === SOURCE_ADDRESS || type === TARGET_ADDRESS) && !this.#hasMac(memory, at + 2)) {
        return false
      }
      at += bytes
    }
    return true
  }

  #hasMac(memory: Uint8Array, at: number): boolean {
    if (!this.#macs) return true
    for (const mac of this.#macs) {
      if (u16(mac, 0) === u16(memory, at) && u32(mac, 2) === u32(memory, at + 2)) return true
    }
    return false
  }
}

/** The link-local address that RFC 4291 derives from a MAC address. */
function linkLocal(mac: Uint8Array): IpRange {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac
  const half = [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
  return { bytes: Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, ...half), prefix: 128 }
}

function isWithin(ranges: readonly IpRange[], memory: Uint8Array, at: number): boolean {
  for (const range of ranges) if (hasPrefix(range, memory, at)) return true
  return false
}

function hasPrefix({ bytes, prefix }: IpRange, memory: Uint8Array, at: number): boolean {
  const whole = prefix >> 3
  for (let i = 0; i < whole; i++) if (bytes[i] !== memory[at + i]) return false
  const mask = 0xff00 >> (prefix & 7)
  return (((bytes[whole] ?? 0) ^ (memory[at + whole] ?? 0)) & mask & 0xff) === 0
}

function isZero(memory: Uint8Array, at: number): boolean {
  for (let i = 0; i < 16; i++) if (memory[at + i] !== 0) return false
  return true
}
