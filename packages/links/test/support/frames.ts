/** Frames for tests, written byte by byte without the code under test. */
import { Frames } from '@xenkit/frames'

export const BROADCAST = 'ff:ff:ff:ff:ff:ff'

export const mac = (text: string): number[] => text.split(':').map((byte) => Number(`0x${byte}`))

/** Address of the guest with this number. */
export const macOf = (number: number): string => `00:16:3e:00:00:${hex(number)}`

export const hex = (byte: number): string => byte.toString(16).padStart(2, '0')

export const ip4 = (text: string): number[] => text.split('.').map(Number)

/** An IPv6 address that is written in full: eight groups. */
export const ip6 = (text: string): number[] =>
  text.split(':').flatMap((group) => word(Number(`0x${group}`)))

export const word = (value: number): number[] => [value >> 8, value & 0xff]

export interface Ethernet {
  readonly to?: string
  readonly from?: string
  /** Tags, outermost first. */
  readonly tags?: readonly number[]
  readonly type?: number
  readonly payload?: readonly number[]
}

export const ethernet = ({
  to = BROADCAST,
  from = macOf(1),
  tags = [],
  type = 0x1234,
  payload = [],
}: Ethernet): number[] => [
  ...mac(to),
  ...mac(from),
  ...tags.flatMap((tag) => [...word(0x8100), ...word(tag)]),
  ...word(type),
  ...payload,
]

export const udp = (from: number, to: number, data: readonly number[] = []): number[] => [
  ...word(from),
  ...word(to),
  ...word(8 + data.length),
  ...word(0),
  ...data,
]

export interface Ip {
  readonly from: string
  readonly to: string
  readonly protocol: number
  readonly payload: readonly number[]
}

/** An IPv4 packet; its header checksum is left 0. */
export const ipv4 = ({ from, to, protocol, payload }: Ip): number[] => [
  0x45,
  0,
  ...word(20 + payload.length),
  ...word(0),
  ...word(0),
  64,
  protocol,
  ...word(0),
  ...ip4(from),
  ...ip4(to),
  ...payload,
]

export const ipv6 = ({ from, to, protocol, payload }: Ip): number[] => [
  0x60,
  0,
  0,
  0,
  ...word(payload.length),
  protocol,
  255,
  ...ip6(from),
  ...ip6(to),
  ...payload,
]

export interface Arp {
  readonly operation: number
  readonly mac: string
  readonly ip: string
  readonly target?: string
}

export const arp = ({ operation, mac: sender, ip, target = '10.0.0.9' }: Arp): number[] => [
  ...word(1),
  ...word(0x0800),
  6,
  4,
  ...word(operation),
  ...mac(sender),
  ...ip4(ip),
  ...mac('00:00:00:00:00:00'),
  ...ip4(target),
]

/** A batch of frames in a memory of its own. */
export function batchOf(...frames: readonly (readonly number[])[]): Frames {
  const batch = new Frames(Math.max(1, frames.length))
  batch.reset(Uint8Array.from(frames.flat()))
  let start = 0
  for (const { length } of frames) {
    batch.add({ start, length })
    start += length
  }
  return batch
}
