/**
 * The blocks of a pcapng file that a capture consists of, as draft-ietf-opsawg-pcapng says. Each
 * begins with its type and length, and ends with its length. All numbers are little-endian.
 */
import type { Frames } from '@xenkit/frames'
import type { FrameDirection } from '../layer.ts'
import type { Chunk } from './spool.ts'

const BlockType = {
  SECTION_HEADER: 0x0a0d0d0a,
  INTERFACE_DESCRIPTION: 1,
  INTERFACE_STATISTICS: 5,
  ENHANCED_PACKET: 6,
} as const

/** Codes of options, each of its own block. */
const Option = {
  END: 0,
  SECTION_APPLICATION: 4,
  INTERFACE_NAME: 2,
  INTERFACE_RESOLUTION: 9,
  PACKET_FLAGS: 2,
  STATISTICS_RECEIVED: 4,
  STATISTICS_DROPPED: 5,
} as const

const BYTE_ORDER_MAGIC = 0x1a2b3c4d
const LINKTYPE_ETHERNET = 1
/** Timestamps are in units of 10^-9 seconds. */
const NANOSECONDS = 9
/** The section's length isn't known when it begins. */
const UNKNOWN_LENGTH = 0xffff_ffff
/** Directions of a packet, in its flags. */
const INBOUND = 1
const OUTBOUND = 2

/** Bytes of a packet's block besides its data: 28 before it, 8 + 4 of options, the length. */
const PACKET_OVERHEAD = 28 + 12 + 4

/** Bytes of a packet's block, with `captured` bytes of data. */
export const packetBlockBytes = (captured: number): number => PACKET_OVERHEAD + padded(captured)

/** Time in nanoseconds since 1970, as pcapng splits it. */
export interface Timestamp {
  readonly high: number
  readonly low: number
}

/** Splits a time. @param milliseconds since 1970, with a fraction */
export function timestampOf(milliseconds: number): Timestamp {
  const whole = Math.floor(milliseconds)
  const nanoseconds = BigInt(whole) * 1_000_000n + BigInt(Math.floor((milliseconds - whole) * 1e6))
  return { high: Number(nanoseconds >> 32n), low: Number(nanoseconds & 0xffff_ffffn) }
}

/** Numbers of an interface since the capture began. */
export interface InterfaceCounts {
  /** Packets that came, including those dropped. */
  readonly received: number
  /** Packets that weren't captured since the sink was too slow. */
  readonly dropped: number
}

/** Returns the block that a capture starts with. */
export function sectionHeader(): Uint8Array {
  return block(BlockType.SECTION_HEADER, [
    u32s(BYTE_ORDER_MAGIC),
    Uint8Array.of(1, 0, 0, 0),
    u32s(UNKNOWN_LENGTH, UNKNOWN_LENGTH),
    option(Option.SECTION_APPLICATION, new TextEncoder().encode('xenkit')),
    option(Option.END, new Uint8Array(0)),
  ])
}

/**
 * Returns the block that describes an interface. Interfaces have numbers in order of their blocks.
 */
export function interfaceDescription(name: string, snaplen: number): Uint8Array {
  return block(BlockType.INTERFACE_DESCRIPTION, [
    u32s(LINKTYPE_ETHERNET, snaplen),
    option(Option.INTERFACE_NAME, new TextEncoder().encode(name)),
    option(Option.INTERFACE_RESOLUTION, Uint8Array.of(NANOSECONDS)),
    option(Option.END, new Uint8Array(0)),
  ])
}

/** Returns the block that says how many packets an interface had. */
export function interfaceStatistics(
  interfaceId: number,
  { high, low }: Timestamp,
  { received, dropped }: InterfaceCounts,
): Uint8Array {
  return block(BlockType.INTERFACE_STATISTICS, [
    u32s(interfaceId, high, low),
    option(Option.STATISTICS_RECEIVED, u64(received)),
    option(Option.STATISTICS_DROPPED, u64(dropped)),
    option(Option.END, new Uint8Array(0)),
  ])
}

/**
 * Bytes of the block of statistics: 20 before the options, two of 12, 4 for their end, the length.
 */
export const STATISTICS_BYTES = 20 + 2 * 12 + 4 + 4

/** What the packets of a batch have in common. */
export interface PacketOrigin {
  readonly interfaceId: number
  readonly time: Timestamp
  readonly direction: FrameDirection
}

/**
 * Writes the block of a packet, of `packetBlockBytes(captured)` bytes.
 * @param captured bytes of the frame to write, at most its length
 */
export function writePacketBlock(
  { bytes, view }: Chunk,
  at: number,
  { interfaceId, time, direction }: PacketOrigin,
  frames: Frames,
  index: number,
  captured: number,
): void {
  const length = packetBlockBytes(captured)
  const start = frames.start[index] ?? 0
  const options = at + 28 + padded(captured)
  view.setUint32(at, BlockType.ENHANCED_PACKET, true)
  view.setUint32(at + 4, length, true)
  view.setUint32(at + 8, interfaceId, true)
  view.setUint32(at + 12, time.high, true)
  view.setUint32(at + 16, time.low, true)
  view.setUint32(at + 20, captured, true)
  view.setUint32(at + 24, frames.length[index] ?? 0, true)
  // The data ends in this word or before it, and padding has to be zeroes.
  view.setUint32(options - 4, 0, true)
  bytes.set(frames.memory.subarray(start, start + captured), at + 28)
  view.setUint32(options, Option.PACKET_FLAGS | (4 << 16), true)
  // The interface is the backend's, so what its guest sends comes in.
  view.setUint32(options + 4, direction === 'from-card' ? INBOUND : OUTBOUND, true)
  view.setUint32(options + 8, Option.END, true)
  view.setUint32(options + 12, length, true)
}

function block(type: number, parts: readonly Uint8Array[]): Uint8Array {
  const bytes = 12 + parts.reduce((sum, { length }) => sum + length, 0)
  return concat([u32s(type, bytes), ...parts, u32s(bytes)])
}

function option(code: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + padded(value.length))
  const view = new DataView(bytes.buffer)
  view.setUint16(0, code, true)
  view.setUint16(2, value.length, true)
  bytes.set(value, 4)
  return bytes
}

function u32s(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4)
  const view = new DataView(bytes.buffer)
  values.forEach((value, i) => view.setUint32(4 * i, value, true))
  return bytes
}

const u64 = (value: number): Uint8Array => u32s(value % 2 ** 32, Math.floor(value / 2 ** 32))

const concat = (parts: readonly Uint8Array[]): Uint8Array => {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** Data and options end at a multiple of four bytes. */
const padded = (bytes: number): number => (bytes + 3) & ~3
