/**
 * Packets for tests, and a second implementation of what the package computes. It shares no code
 * with the package: sums are remainders modulo 65,535 of whole numbers, and lengths are of arrays.
 */
import fc from 'fast-check'

/** A packet of TCP or UDP, from which its bytes follow. */
export interface Packet {
  readonly tags: readonly { readonly type: number; readonly vlan: number }[]
  readonly version: 4 | 6
  readonly source: readonly number[]
  readonly destination: readonly number[]
  readonly id: number
  /** IPv4: options. IPv6: bodies of a destination options header each. Multiples of their units. */
  readonly options: readonly (readonly number[])[]
  readonly protocol: 6 | 17
  readonly tcpOptions: readonly number[]
  readonly seq: number
  readonly flags: number
  readonly payload: Uint8Array
}

const be16 = (value: number): number[] => [(value >> 8) & 255, value & 255]
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)]

/** One's complement sum of words, as a remainder: 0 stands for 0xffff too. */
export const remainder = (bytes: ArrayLike<number>): number => {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) {
    sum = (sum + (bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0)) % 65_535
  }
  return sum
}

const pseudoHeader = (packet: Packet, bytes: number): number[] =>
  packet.version === 4
    ? [...packet.source, ...packet.destination, 0, packet.protocol, ...be16(bytes)]
    : [...packet.source, ...packet.destination, ...be32(bytes), 0, 0, 0, packet.protocol]

/** True if the sum over all of it, its checksum included, is that of a valid packet. */
export const isValid = (bytes: ArrayLike<number>): boolean => remainder(bytes) === 0

/** Offsets and bytes of a packet's frame. */
export interface Built {
  readonly bytes: Uint8Array
  readonly l3: number
  readonly l4: number
  readonly headers: number
  /** The pseudo-header, which a checksum covers with the bytes from `l4` on. */
  readonly pseudo: readonly number[]
}

const extensions = (packet: Packet): number[] =>
  packet.options.flatMap((body, i) => [
    i + 1 < packet.options.length ? 60 : packet.protocol,
    (body.length + 2) / 8 - 1,
    ...body,
  ])

/** The packet's frame. Its checksum field has the sum of the pseudo-header. */
export function build(packet: Packet): Built {
  const { payload, tags, version } = packet
  const types = [...tags.map((tag) => tag.type), version === 4 ? 0x0800 : 0x86dd]
  const ethernet = [
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 2],
    be16(types[0] ?? 0),
    ...tags.map((tag, i) => [...be16(tag.vlan), ...be16(types[i + 1] ?? 0)]),
  ].flat()
  const l4Header = (
    packet.protocol === 6
      ? [
          [...be16(1234), ...be16(80), ...be32(packet.seq), ...be32(77)],
          [(20 + packet.tcpOptions.length) << 2, packet.flags, ...be16(1000), 0, 0, 0, 0],
          packet.tcpOptions,
        ]
      : [be16(1234), be16(53), be16(8 + payload.length), [0, 0]]
  ).flat()
  const l4Bytes = l4Header.length + payload.length
  const pseudo = pseudoHeader(packet, l4Bytes)
  const field = packet.protocol === 6 ? 16 : 6
  l4Header.splice(field, 2, ...be16(remainder(pseudo)))
  const ip = version === 4 ? ipv4(packet, l4Bytes) : ipv6(packet, l4Bytes)
  const headers = [...ethernet, ...ip, ...l4Header]
  const l4 = ethernet.length + ip.length
  const bytes = new Uint8Array(headers.length + payload.length)
  bytes.set(headers)
  bytes.set(payload, headers.length)
  return { bytes, l3: ethernet.length, l4, headers: headers.length, pseudo }
}

function ipv4(packet: Packet, l4Bytes: number): number[] {
  const options = packet.options.flat()
  const header = 20 + options.length
  const ip = [
    [0x40 | (header / 4), 0, ...be16(header + l4Bytes), ...be16(packet.id), 0x40, 0],
    [64, packet.protocol, 0, 0, ...packet.source, ...packet.destination, ...options],
  ].flat()
  ip.splice(10, 2, ...be16(0xffff - remainder(ip)))
  return ip
}

function ipv6(packet: Packet, l4Bytes: number): number[] {
  const chain = extensions(packet)
  const next = chain.length > 0 ? 60 : packet.protocol
  return [
    [0x60, 0, 0, 0, ...be16(chain.length + l4Bytes), next, 64],
    [...packet.source, ...packet.destination, ...chain],
  ].flat()
}

const byteArray = (length: number): fc.Arbitrary<number[]> =>
  fc.array(fc.nat(255), { minLength: length, maxLength: length })

const multiples = (unit: number, max: number, less = 0): fc.Arbitrary<number[]> =>
  fc.integer({ min: less > 0 ? 1 : 0, max }).chain((n) => byteArray(n * unit - less))

/** Bytes from a seed, since fast-check takes long to generate thousands. */
const payloads = (max: number): fc.Arbitrary<Uint8Array> =>
  fc.tuple(fc.nat(max), fc.nat()).map(([length, seed]) => {
    const factor = 2 * seed + 1
    return Uint8Array.from({ length }, (_, i) => Math.imul(i + 1, factor) >>> 24)
  })

const common = {
  tags: fc.array(fc.record({ type: fc.constantFrom(0x8100, 0x88a8), vlan: fc.nat(0xfff) }), {
    maxLength: 3,
  }),
  id: fc.nat(0xffff),
  tcpOptions: multiples(4, 10),
  seq: fc.nat(0xffff_ffff),
  flags: fc.nat(255),
}

/** Packets of TCP (6) or UDP (17) with up to so many bytes of payload. */
export const packets = (
  protocols: readonly (6 | 17)[],
  maxPayload: number,
): fc.Arbitrary<Packet> => {
  const rest = {
    ...common,
    protocol: fc.constantFrom(...protocols),
    payload: payloads(maxPayload),
  }
  return fc.oneof(
    fc.record({
      ...rest,
      version: fc.constant(4 as const),
      source: byteArray(4),
      destination: byteArray(4),
      options: fc.array(multiples(4, 5), { maxLength: 2 }),
    }),
    fc.record({
      ...rest,
      version: fc.constant(6 as const),
      source: byteArray(16),
      destination: byteArray(16),
      options: fc.array(multiples(8, 3, 2), { maxLength: 2 }),
    }),
  )
}

/** A TCP packet without payload over IPv4, to be varied by tests. */
export const tcp4: Packet = {
  tags: [],
  version: 4,
  source: [10, 0, 0, 1],
  destination: [10, 0, 0, 2],
  id: 7,
  options: [],
  protocol: 6,
  tcpOptions: [],
  seq: 1,
  flags: 16,
  payload: new Uint8Array(0),
}
