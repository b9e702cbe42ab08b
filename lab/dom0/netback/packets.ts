/**
 * Builds the frames that the suite sends, and verifies those that it receives. It shares no code
 * with @xenkit/frames, which is under test.
 */

/** Addresses of one party on the network. */
export interface Station {
  readonly mac: readonly number[]
  readonly v4: readonly number[]
  readonly v6: readonly number[]
}

/** A frame, and where its headers are. */
export interface Built {
  readonly bytes: Uint8Array
  /** Start of the TCP or UDP header. */
  readonly l4: number
  /** Start of the payload. */
  readonly headers: number
}

export type Version = 4 | 6

const ETHERNET = 14
const [TCP, UDP] = [6, 17]

const be16 = (value: number): number[] => [(value >> 8) & 255, value & 255]
export const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value)]

/** One's complement sum of 16-bit words, not inverted. */
function sum(bytes: ArrayLike<number>, from = 0): number {
  let total = 0
  for (let i = from; i < bytes.length; i += 2) {
    total += (bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0)
  }
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000)
  return total
}

const ethernet = (from: Station, to: Station, type: number): number[] => [
  ...to.mac,
  ...from.mac,
  ...be16(type),
]

const BROADCAST = Array.from({ length: 6 }, () => 255)
const UNKNOWN = Array.from({ length: 6 }, () => 0)

/** Asks for the hardware address of `to`. */
export function arpRequest(from: Station, to: Station): Uint8Array {
  const operation = [0, 1, 8, 0, 6, 4, 0, 1]
  return Uint8Array.from([
    ...ethernet(from, { ...to, mac: BROADCAST }, 0x0806),
    ...operation,
    ...from.mac,
    ...from.v4,
    ...UNKNOWN,
    ...to.v4,
    ...Array.from({ length: 18 }, () => 0),
  ])
}

/** The address that an answer to `arpRequest` names; undefined if it is something else. */
export function arpAnswer(frame: Uint8Array, asked: Station): readonly number[] | undefined {
  const isAnswer =
    frame[12] === 8 && frame[13] === 6 && frame[21] === 2 && isAt(frame, 28, asked.v4)
  return isAnswer ? [...frame.subarray(22, 28)] : undefined
}

const isAt = (frame: Uint8Array, at: number, bytes: ArrayLike<number>): boolean =>
  Array.from(bytes).every((byte, i) => frame[at + i] === byte)

function ip(version: Version, from: Station, to: Station, protocol: number, bytes: number) {
  if (version === 6) {
    return [0x60, 0, 0, 0, ...be16(bytes), protocol, 64, ...from.v6, ...to.v6]
  }
  const header = [0x45, 0, ...be16(20 + bytes), 0, 1, 0x40, 0, 64, protocol, 0, 0]
  header.push(...from.v4, ...to.v4)
  header.splice(10, 2, ...be16(0xffff - sum(header)))
  return header
}

/** An ICMP echo request. */
export function pingRequest(from: Station, to: Station, payload: Uint8Array): Uint8Array {
  const icmp = [8, 0, 0, 0, 0x12, 0x34, 0, 1, ...payload]
  icmp.splice(2, 2, ...be16(0xffff - sum(icmp)))
  return Uint8Array.from([
    ...ethernet(from, to, 0x0800),
    ...ip(4, from, to, 1, icmp.length),
    ...icmp,
  ])
}

/** The payload of an ICMP echo reply; undefined if the frame is something else. */
export function pingAnswer(frame: Uint8Array): Uint8Array | undefined {
  if (frame[12] !== 8 || frame[13] !== 0 || frame[23] !== 1 || frame[34] !== 0) return undefined
  const length = ((frame[16] ?? 0) << 8) | (frame[17] ?? 0)
  return frame.slice(42, ETHERNET + length)
}

interface Segment {
  readonly version: Version
  readonly from: Station
  readonly to: Station
  readonly ports: readonly [from: number, to: number]
  readonly payload: Uint8Array
  /** Whether to leave the checksum to whoever sends the frame to a wire. */
  readonly blank?: boolean
}

function build(protocol: number, header: number[], field: number, o: Segment): Built {
  const { version, from, to, payload } = o
  const bytes = header.length + payload.length
  const network = [
    ...ethernet(from, to, version === 4 ? 0x0800 : 0x86dd),
    ...ip(version, from, to, protocol, bytes),
  ]
  const pseudo = pseudoHeader(version, network, protocol, bytes)
  const l4 = Uint8Array.from([...header, ...payload])
  l4.set(be16(sum(pseudo)), field)
  if (o.blank !== true) l4.set(be16(0xffff - sum(l4) || 0xffff), field)
  const frame = Uint8Array.from([...network, ...l4])
  return { bytes: frame, l4: network.length, headers: network.length + header.length }
}

/** What a checksum covers beyond the segment itself. */
function pseudoHeader(
  version: Version,
  frame: ArrayLike<number>,
  protocol: number,
  bytes: number,
): number[] {
  const addresses = Array.from(frame).slice(...(version === 4 ? [26, 34] : [22, 54]))
  return [...addresses, 0, protocol, ...be16(bytes)]
}

/** A UDP datagram in a frame. */
export const udpFrame = (o: Segment): Built =>
  build(UDP, [...o.ports.flatMap(be16), ...be16(8 + o.payload.length), 0, 0], 6, o)

/** A TCP segment in a frame, of up to 64 KiB. */
export const tcpFrame = (o: Segment, sequence: number): Built =>
  build(
    TCP,
    [...o.ports.flatMap(be16), ...be32(sequence), 0, 0, 0, 1, 0x50, 0x18, 0x10, 0, 0, 0, 0, 0],
    16,
    o,
  )

/** A UDP or TCP segment of a received frame. */
export interface Parsed {
  readonly protocol: number
  readonly ports: readonly [from: number, to: number]
  readonly payload: Uint8Array
  /** Whether the checksum of the segment is right. */
  readonly isValid: boolean
}

/** Parses a frame without IP options or extension headers; undefined if it is no UDP or TCP. */
export function parse(frame: Uint8Array): Parsed | undefined {
  const type = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0)
  const version = type === 0x0800 ? 4 : type === 0x86dd ? 6 : undefined
  if (version === undefined) return undefined
  const protocol = frame[version === 4 ? 23 : 20] ?? 0
  if (protocol !== UDP && protocol !== TCP) return undefined
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  const l4 = ETHERNET + (version === 4 ? 20 : 40)
  const bytes = version === 4 ? view.getUint16(16) - 20 : view.getUint16(18)
  const header = protocol === UDP ? 8 : ((frame[l4 + 12] ?? 0) >> 4) * 4
  const segment = frame.slice(l4, l4 + bytes)
  return {
    protocol,
    ports: [view.getUint16(l4), view.getUint16(l4 + 2)],
    payload: segment.subarray(header),
    isValid: sum([...pseudoHeader(version, frame, protocol, bytes), ...segment]) === 0xffff,
  }
}

/** Bytes that differ between seeds. */
export const noise = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => Math.imul(i + 1 + seed * 7, 0x9e3779b1) >>> 24)
