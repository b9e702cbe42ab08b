/** A TAP device for tests, with an address of the host's and a neighbour that the test plays. */
import { execFileSync } from 'node:child_process'
import { loadNative, type TapDevice } from '../index.js'

const native = loadNative()

/** Address of the host on the test's interface, and of the neighbour that the test plays. */
export const HOST = '198.18.0.1'
export const NEIGHBOUR = '198.18.0.2'
const NEIGHBOUR_MAC = [2, 0, 0, 0, 0, 2]

/** Says why TAP devices can't be tested here; undefined if they can. */
export function whyNoTap(): string | undefined {
  try {
    new native.TapDevice('xktest%d', false, 1, () => {}).close()
    execFileSync('ip', ['-V'])
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

export const ip = (...args: readonly string[]): string =>
  execFileSync('ip', args, { encoding: 'utf8', stdio: 'pipe' })

/** Gives an interface the host's address, and makes the neighbour known; returns its address. */
export function connect(name: string): Buffer {
  ip('address', 'add', `${HOST}/24`, 'dev', name)
  const mac = NEIGHBOUR_MAC.map((byte) => byte.toString(16).padStart(2, '0')).join(':')
  ip('neighbour', 'replace', NEIGHBOUR, 'lladdr', mac, 'dev', name)
  return Buffer.from(
    /ether ([\da-f:]+)/.exec(ip('link', 'show', name))?.[1]?.replaceAll(':', '') ?? '',
    'hex',
  )
}

/** A UDP packet from the neighbour to the host. */
export function udp(to: Uint8Array, port: number, data: Uint8Array): Buffer {
  const transport = Buffer.alloc(8 + data.length)
  transport.writeUInt16BE(4000)
  transport.writeUInt16BE(port, 2)
  transport.writeUInt16BE(transport.length, 4)
  transport.set(data, 8)
  return ip4(to, 17, transport)
}

/** An IPv4 packet from the neighbour to the host; its transport checksum isn't touched. */
export function ip4(to: Uint8Array, protocol: number, transport: Uint8Array): Buffer {
  const frame = Buffer.alloc(34 + transport.length)
  frame.set(to)
  frame.set(NEIGHBOUR_MAC, 6)
  frame.writeUInt16BE(0x0800, 12)
  frame.set([0x45, 0], 14)
  frame.writeUInt16BE(20 + transport.length, 16)
  frame.set([64, protocol], 22)
  frame.set(bytesOf(NEIGHBOUR), 26)
  frame.set(bytesOf(HOST), 30)
  frame.writeUInt16BE(0xffff - sum(frame.subarray(14, 34)), 24)
  frame.set(transport, 34)
  return frame
}

/** Sum of the pseudo-header between neighbour and host. */
export function pseudoSum(protocol: number, length: number): number {
  const header = Buffer.from([...bytesOf(NEIGHBOUR), ...bytesOf(HOST), 0, protocol, 0, 0])
  header.writeUInt16BE(length, 10)
  return sum(header)
}

const bytesOf = (address: string): number[] => address.split('.').map(Number)

/** One's complement sum of 16-bit words. */
export function sum(bytes: Buffer): number {
  let total = 0
  for (let at = 0; at < bytes.length; at += 2) {
    total += (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0)
  }
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

/** An open device, with views of its table's columns. */
export function openTap(
  onReady: (status: number) => void = () => {},
  o: { readonly name?: string; readonly frames?: number; readonly kind?: 'calls' } = {},
) {
  const { name = 'xktest%d', frames = 64, kind } = o
  const device = new native.TapDevice(name, false, frames, onReady, kind)
  const layout = device.tableLayout()
  const buffer = device.createTable()
  const wide = (offset: number, length = frames) => new Uint32Array(buffer, offset, length)
  const half = (offset: number) => new Uint16Array(buffer, offset, frames)
  return {
    device,
    name: device.name(),
    write: device.createWrite(),
    read: device.createRead(),
    memory: new Uint8Array(frames * device.place),
    start: wide(layout.start),
    length: wide(layout.length),
    error: wide(layout.error, 1),
    checksumStart: half(layout.checksumStart),
    checksumOffset: half(layout.checksumOffset),
    gsoSize: half(layout.gsoSize),
    headers: half(layout.headers),
    checksum: new Uint8Array(buffer, layout.checksum, frames),
    gso: new Uint8Array(buffer, layout.gso, frames),
    [Symbol.dispose]: () => device.close(),
  } satisfies { device: TapDevice } & Record<string | symbol, unknown>
}
