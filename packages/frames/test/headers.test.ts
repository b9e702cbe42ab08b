import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Headers, NO_PROTOCOL, NO_VLAN } from '../src/index.ts'
import { build, packets } from './support/packets.ts'

test('finds the headers of any packet', () => {
  fc.assert(
    fc.property(packets([6, 17], 100), fc.nat(20), (packet, start) => {
      const { bytes, l3, l4, headers } = build(packet)
      // Ethernet pads short frames.
      const memory = new Uint8Array(start + Math.max(60, bytes.length) + 7)
      memory.set(bytes, start)
      const parsed = new Headers()
      expect(parsed.parse(memory, start, Math.max(60, bytes.length))).toBe(true)
      expect({ ...parsed }).toEqual({
        ethertype: packet.version === 4 ? 0x0800 : 0x86dd,
        vlan: packet.tags[0]?.vlan ?? NO_VLAN,
        l3,
        l4,
        protocol: packet.protocol,
        length: headers,
        end: bytes.length,
        fragment: false,
        checksum: l4 + (packet.protocol === 6 ? 16 : 6),
        destination: l3 + (packet.version === 4 ? 16 : 24),
      })
    }),
  )
})

test('fails at a cut in any header, and reads nothing outside of the frame', () => {
  fc.assert(
    fc.property(packets([6, 17], 100), fc.nat(200), fc.nat(), (packet, place, noise) => {
      const { bytes, headers } = build(packet)
      const cut = place % headers
      const parsed = new Headers()
      const short = bytes.slice(0, cut)
      expect(parsed.parse(short, 0, cut)).toBe(false)
      const alone = { ...parsed }
      // The bytes after the frame change nothing.
      const rest = new Uint8Array(bytes.length - cut + 300).fill(noise)
      expect(parsed.parse(Uint8Array.of(...short, ...rest), 0, cut)).toBe(false)
      expect({ ...parsed }).toEqual(alone)
      expect(parsed.l4).toBe(0)
    }),
  )
})

/** A frame of these bytes after two addresses, and zeros up to 400 bytes. */
const frameOf = (...parts: readonly (readonly number[])[]): Uint8Array => {
  const frame = new Uint8Array(400)
  frame.set(parts.flat(), 12)
  return frame
}

/** Headers of IPv4: so many words, total bytes, fragment field and protocol. */
const ipv4 = (words: number, total: number, place: number, protocol: number): number[] =>
  [
    [0x08, 0, 0x40 | words, 0, total >> 8, total & 255, 0, 0, place >> 8, place & 255],
    [64, protocol, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
  ].flat()
const ipv6 = (payload: number, next: number): number[] =>
  [
    [0x86, 0xdd, 0x60, 0, 0, 0, payload >> 8, payload & 255, next, 64],
    Array<number>(16).fill(1),
    Array<number>(16).fill(2),
  ].flat()
const zeros = (count: number): number[] => Array<number>(count).fill(0)
const tcp = (words: number): number[] => [...zeros(12), words << 4, ...zeros(7)]
const tags = (count: number): number[] =>
  Array.from({ length: count }, () => [0x81, 0, 0, 7]).flat()

test.each([
  ['9 VLAN tags', tags(9)],
  ['IPv4 whose version is 6', [0x08, 0, 0x65]],
  ['IPv4 with a header of 16 bytes', ipv4(4, 40, 0, 1)],
  ['IPv4 with a header beyond its packet', ipv4(15, 59, 0, 1)],
  ['IPv4 beyond the frame', ipv4(5, 387, 0, 1)],
  ['TCP with a header of 16 bytes', [...ipv4(5, 100, 0, 6), ...tcp(4)]],
  ['TCP with a header beyond its packet', [...ipv4(5, 79, 0, 6), ...tcp(15)]],
  ['TCP of 19 bytes', [...ipv4(5, 39, 0, 6), ...tcp(5)]],
  ['UDP of 7 bytes', ipv4(5, 27, 0, 17)],
  ['the first fragment of UDP, of 7 bytes', ipv4(5, 27, 0x2000, 17)],
  ['IPv6 beyond the frame', ipv6(347, 59)],
  ['an IPv6 header beyond its packet', [...ipv6(40, 60), 6, 5]],
  ['more than 256 bytes of IPv6 headers', [...ipv6(300, 60), 59, 27]],
  ['a chain of IPv6 headers without end', [...ipv6(300, 60), ...Array(300).fill(60)]],
])('fails at %s', (_, bytes) => {
  const headers = new Headers()
  expect(headers.parse(frameOf(bytes), 0, 400)).toBe(false)
  expect(headers.l4).toBe(0)
  expect(headers.checksum).toBe(0)
})

test.each([
  ['8 VLAN tags', [tags(8), ipv4(5, 40, 0, 1)], { vlan: 7, l3: 46, l4: 66, end: 86 }],
  ['IEEE 802.3', [[0, 50]], { ethertype: 50, l3: 14, protocol: NO_PROTOCOL, end: 400 }],
  ['a first fragment', [ipv4(5, 60, 0x2000, 17)], { l4: 34, fragment: true, length: 42 }],
  ['a later fragment', [ipv4(5, 60, 1, 17)], { l4: 0, fragment: true, length: 34, checksum: 0 }],
  ['a packet that must not be fragmented', [ipv4(5, 60, 0x4000, 17)], { l4: 34, fragment: false }],
  [
    'a first fragment of IPv6',
    [ipv6(40, 44), [17, 0, 0, 1, 0, 0, 0, 0]],
    { l4: 62, fragment: true, protocol: 17, length: 70 },
  ],
  [
    'a later fragment of IPv6',
    [ipv6(40, 44), [17, 0, 0, 8, 0, 0, 0, 0]],
    { l4: 0, fragment: true, protocol: 17, length: 62, checksum: 0 },
  ],
  [
    'a fragment header of a whole packet',
    [ipv6(40, 44), [17, 0, 0, 0, 0, 0, 0, 0]],
    { l4: 62, fragment: false },
  ],
  ['an authentication header', [ipv6(40, 51), [17, 2]], { l4: 70, length: 78 }],
  ['256 bytes of IPv6 headers', [ipv6(300, 60), [59, 26]], { l4: 270, protocol: 59 }],
  ['an unused route of type 0', [ipv6(90, 43), [17, 4, 0, 2]], { l4: 94, destination: 78 }],
  ['a route of segments', [ipv6(90, 43), [17, 4, 4, 1]], { l4: 94, destination: 62 }],
  ['a home address', [ipv6(90, 43), [17, 2, 2, 1]], { l4: 78, destination: 62 }],
  ['a used route', [ipv6(90, 43), [17, 4, 0, 0]], { l4: 94, destination: 38 }],
  ['a route of an unknown type', [ipv6(90, 43), [17, 4, 9, 1]], { l4: 94, destination: 38 }],
  ['a route without an address', [ipv6(90, 43), [17, 1, 0, 1]], { l4: 70, destination: 38 }],
])('finds %s', (_, parts, expected) => {
  const headers = new Headers()
  expect(headers.parse(frameOf(...parts), 0, 400)).toBe(true)
  expect(headers).toMatchObject(expected)
})

test('a GSO frame ends where it ends, whatever its lengths say', () => {
  const headers = new Headers()
  for (const ip of [ipv4(5, 0, 0, 6), ipv6(0, 6)]) {
    expect(headers.parse(frameOf(ip, tcp(8)), 0, 400, true)).toBe(true)
    expect(headers).toMatchObject({ end: 400, length: headers.l4 + 32 })
    expect(headers.parse(frameOf(ip, tcp(8)), 0, 400)).toBe(false)
  }
})

test('a frame beyond its memory has no headers', () => {
  const headers = new Headers()
  expect(headers.parse(frameOf(ipv4(5, 60, 0, 17)), 1, 400)).toBe(false)
  expect(headers.l3).toBe(0)
})
