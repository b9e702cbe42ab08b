/**
 * The headers of an Ethernet frame: VLAN tags, IPv4 or IPv6, TCP or UDP.
 *
 * Frames come from guests, so every length in them may lie. Nothing is read outside of the frame.
 */

/** EtherTypes that the parser knows. */
export const EtherType = {
  IPV4: 0x0800,
  ARP: 0x0806,
  /** An IEEE 802.1Q tag. */
  VLAN: 0x8100,
  IPV6: 0x86dd,
  /** An IEEE 802.1ad tag. */
  SERVICE_VLAN: 0x88a8,
} as const

/** Protocols over IP that the parser knows. */
export const IpProtocol = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const

/** IPv6 headers between IPv6's own and the upper layer's. */
const Extension = {
  HOP_BY_HOP: 0,
  ROUTING: 43,
  FRAGMENT: 44,
  AUTHENTICATION: 51,
  DESTINATION: 60,
} as const

/** Most VLAN tags of a frame: VLAN_MAX_DEPTH of Linux. */
const MAX_TAGS = 8
/** Most bytes of IPv6 headers: MAX_IPV6_HDR_LEN of Linux. It bounds the work on a chain. */
const MAX_IPV6_HEADERS = 256

const ETHERNET_HEADER = 14
const TAG = 4
const IPV4_HEADER = 20
const IPV6_HEADER = 40
const IPV6_DESTINATION = 24
const FRAGMENT_HEADER = 8
const TCP_HEADER = 20
const TCP_CHECKSUM = 16
const UDP_HEADER = 8
const UDP_CHECKSUM = 6

/** `Headers.vlan` of a frame without a VLAN tag. */
export const NO_VLAN = -1
/** `Headers.protocol` of a frame that isn't IP. */
export const NO_PROTOCOL = -1

/** The headers of one frame, reused from frame to frame. Offsets are relative to the frame. */
export class Headers {
  /** The EtherType after all VLAN tags; a length of 0..1500 with IEEE 802.3. */
  ethertype = 0
  /** The VLAN of the outermost tag, 0..4095, or NO_VLAN. */
  vlan: number = NO_VLAN
  /** Offset of what follows the Ethernet header and its tags: of the IP header. */
  l3 = 0
  /** The protocol over IP, or NO_PROTOCOL. */
  protocol: number = NO_PROTOCOL
  /**
   * Offset of the TCP or UDP header, or of what another protocol has in its place. 0: there is
   * none, as in all but the first fragment.
   */
  l4 = 0
  /** Bytes of all headers that were parsed: offset of the payload. */
  length = 0
  /** Offset of the packet's end. Padding may follow, up to the frame's end. */
  end = 0
  /** True with a part of an IP packet: its checksum covers more than the frame. */
  fragment = false
  /** Offset of the TCP or UDP checksum; 0: there is none. */
  checksum = 0
  /** Offset of the address that the pseudo-header has as its destination. */
  destination = 0
  #memory: Uint8Array = new Uint8Array(0)
  #start = 0
  #length = 0

  /**
   * Parses a frame. When a header isn't entirely in the frame, or lies, the result is false, and
   * the fields of this header and the ones after it say that there is none.
   *
   * @param memory memory that the frame lies in
   * @param start first byte of the frame
   * @param length bytes of the frame
   * @param gso true for a GSO frame, whose IP length says nothing: it ends with the frame
   */
  parse(memory: Uint8Array, start: number, length: number, gso = false): boolean {
    this.#memory = memory
    this.#start = start
    this.#length = length
    this.ethertype = 0
    this.vlan = NO_VLAN
    this.l3 = 0
    this.protocol = NO_PROTOCOL
    this.l4 = 0
    this.length = 0
    this.end = length
    this.fragment = false
    this.checksum = 0
    this.destination = 0
    if (start + length > memory.length || length < ETHERNET_HEADER) return false
    if (!this.#parseTags()) return false
    if (this.ethertype === EtherType.IPV4) return this.#parseIpv4(gso) && this.#parseL4()
    if (this.ethertype === EtherType.IPV6) return this.#parseIpv6(gso) && this.#parseL4()
    return true
  }

  #parseTags(): boolean {
    let type = this.#u16(12)
    let at = ETHERNET_HEADER
    for (let tags = 0; type === EtherType.VLAN || type === EtherType.SERVICE_VLAN; tags++) {
      if (tags === MAX_TAGS || at + TAG > this.end) return false
      if (tags === 0) this.vlan = this.#u16(at) & 0xfff
      type = this.#u16(at + 2)
      at += TAG
    }
    this.ethertype = type
    this.l3 = at
    this.length = at
    return true
  }

  #parseIpv4(gso: boolean): boolean {
    const { l3 } = this
    if (l3 + IPV4_HEADER > this.end || this.#u8(l3) >> 4 !== 4) return false
    const header = (this.#u8(l3) & 15) * 4
    const total = gso ? this.end - l3 : this.#u16(l3 + 2)
    if (header < IPV4_HEADER || header > total || l3 + total > this.end) return false
    // More fragments, or an offset.
    const place = this.#u16(l3 + 6)
    this.fragment = (place & 0x3fff) !== 0
    this.protocol = this.#u8(l3 + 9)
    this.length = l3 + header
    this.end = l3 + total
    this.destination = l3 + 16
    if ((place & 0x1fff) === 0) this.l4 = this.length
    return true
  }

  #parseIpv6(gso: boolean): boolean {
    const { l3 } = this
    if (l3 + IPV6_HEADER > this.end || this.#u8(l3) >> 4 !== 6) return false
    const total = gso ? this.end - l3 : IPV6_HEADER + this.#u16(l3 + 4)
    if (l3 + total > this.end) return false
    this.end = l3 + total
    this.destination = l3 + IPV6_DESTINATION
    return this.#parseExtensions(this.#u8(l3 + 6), l3 + IPV6_HEADER)
  }

  /** Follows the chain of IPv6 headers. @param next type of the one at offset `at` */
  #parseExtensions(next: number, at: number): boolean {
    const limit = Math.min(this.end, this.l3 + MAX_IPV6_HEADERS)
    for (;;) {
      const bytes = this.#extensionBytes(next, at)
      if (bytes === 0) break
      // The length is in the first 8 bytes, which every such header has.
      if (at + 8 > limit || at + bytes > limit) return false
      if (next === Extension.ROUTING) this.#noteRouting(at, bytes)
      const place = next === Extension.FRAGMENT ? this.#u16(at + 2) : 0
      next = this.#u8(at)
      at += bytes
      // Bit 0 says that more fragments follow; bits 3..15 are the offset, of 8 bytes each.
      if ((place & 0xfff9) !== 0) this.fragment = true
      if (place >> 3 !== 0) {
        this.protocol = next
        this.length = at
        return true
      }
    }
    this.protocol = next
    this.length = at
    this.l4 = at
    return true
  }

  /** Bytes of the IPv6 header at `at`; 0 if its type is the upper layer's. */
  #extensionBytes(type: number, at: number): number {
    switch (type) {
      case Extension.HOP_BY_HOP:
      case Extension.ROUTING:
      case Extension.DESTINATION:
        return 8 * (this.#u8(at + 1) + 1)
      case Extension.AUTHENTICATION:
        return 4 * (this.#u8(at + 1) + 2)
      case Extension.FRAGMENT:
        return FRAGMENT_HEADER
      default:
        return 0
    }
  }

  /** Checksums cover the last destination, which a routing header that isn't used up yet names. */
  #noteRouting(at: number, bytes: number): void {
    const type = this.#u8(at + 2)
    if (this.#u8(at + 3) === 0 || bytes < 24) return
    // Type 0 lists addresses in the order of travel, 4 (segment routing) in reverse; 2 has only
    // one.
    if (type === 0) this.destination = at + 8 + 16 * (((bytes - 8) >> 4) - 1)
    else if (type === 2 || type === 4) this.destination = at + 8
  }

  #parseL4(): boolean {
    const { l4 } = this
    if (l4 === 0) return true
    const tcp = this.protocol === IpProtocol.TCP
    if (!tcp && this.protocol !== IpProtocol.UDP) return true
    const bytes = tcp ? (this.#u8(l4 + 12) >> 4) * 4 : UDP_HEADER
    if (bytes < (tcp ? TCP_HEADER : UDP_HEADER) || l4 + bytes > this.end) {
      this.l4 = 0
      return false
    }
    this.length = l4 + bytes
    this.checksum = l4 + (tcp ? TCP_CHECKSUM : UDP_CHECKSUM)
    return true
  }

  /** A byte of the frame; 0 beyond its end. */
  #u8(at: number): number {
    return at < this.#length ? (this.#memory[this.#start + at] ?? 0) : 0
  }

  #u16(at: number): number {
    return (this.#u8(at) << 8) | this.#u8(at + 1)
  }
}
