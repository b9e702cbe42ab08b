import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FlowHash, HashType, Headers } from '../src/index.ts'
import { type Packet, build, packets } from './support/packets.ts'

const ALL = 15

/** The key and the vectors are Microsoft's, from "Verifying the RSS Hash Calculation". */
const KEY = Buffer.from(
  '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa',
  'hex',
)
const VECTORS = [
  ['161.142.100.80', 1766, '66.9.149.187', 2794, 0x323e8fc2, 0x51ccc178],
  ['65.69.140.83', 4739, '199.92.111.2', 14230, 0xd718262a, 0xc626b0ea],
  ['12.22.207.184', 38024, '24.19.198.95', 12898, 0xd2d0a5de, 0x5c2b394a],
  ['209.142.163.6', 2217, '38.27.205.30', 48228, 0x82989176, 0xafc7327f],
  ['202.188.127.2', 1303, '153.39.163.191', 44251, 0x5d1809c5, 0x10e828a2],
  ['3ffe:2501:200:3:0:0:0:1', 1766, '3ffe:2501:200:1fff:0:0:0:7', 2794, 0x2cc18cd5, 0x40207d3d],
  ['ff02:0:0:0:0:0:0:1', 4739, '3ffe:501:8:0:260:97ff:fe40:efab', 14230, 0x0f0c461c, 0xdde51bbf],
  [
    ...(['fe80:0:0:0:200:f8ff:fe21:67cf', 38024] as const),
    ...(['3ffe:1900:4545:3:200:f8ff:fe21:67cf', 44251, 0x4b61e985, 0x02d1feef] as const),
  ],
] as const

const addressBytes = (address: string): number[] =>
  address.includes('.')
    ? address.split('.').map(Number)
    : address.split(':').flatMap((group) => {
        const value = parseInt(group, 16)
        return [value >> 8, value & 255]
      })

const packetOf = (o: Partial<Packet>): Packet => ({
  tags: [],
  version: o.source?.length === 16 ? 6 : 4,
  source: [],
  destination: [],
  id: 0,
  options: [],
  protocol: 6,
  tcpOptions: [],
  seq: 0,
  flags: 0,
  payload: new Uint8Array(0),
  ...o,
})

function hashOf(hash: FlowHash, bytes: Uint8Array, types: number): { value: number; type: number } {
  const headers = new Headers()
  headers.parse(bytes, 0, bytes.length)
  hash.compute(bytes, 0, headers, types)
  return { value: hash.value, type: hash.type }
}

test.each(VECTORS)(
  'hashes Microsoft’s flow %s:%d from %s:%d',
  (to, toPort, from, fromPort, ip, tcp) => {
    const [source, destination] = [addressBytes(from), addressBytes(to)]
    const { bytes, l4 } = build(packetOf({ source, destination }))
    Buffer.from(bytes.buffer).writeUInt16BE(fromPort, l4)
    Buffer.from(bytes.buffer).writeUInt16BE(toPort, l4 + 2)
    const hash = new FlowHash(KEY)
    const [plain, withPorts] = to.includes('.')
      ? [HashType.IPV4, HashType.IPV4_TCP]
      : [HashType.IPV6, HashType.IPV6_TCP]
    expect(hashOf(hash, bytes, plain)).toEqual({ value: ip, type: plain })
    expect(hashOf(hash, bytes, ALL)).toEqual({ value: tcp, type: withPorts })
  },
)

/** Toeplitz's hash as netif.h says it: the key shifts left by a bit for each bit of the input. */
function reference(key: Uint8Array, input: readonly number[]): number {
  let shifted = BigInt(
    `0x${Buffer.from(key)
      .toString('hex')
      .padEnd(2 * 44, '0')}`,
  )
  const bits = 8n * 44n
  let hash = 0n
  for (const bit of input.flatMap((byte) => [...byte.toString(2).padStart(8, '0')])) {
    if (bit === '1') hash ^= shifted >> (bits - 32n)
    shifted = BigInt.asUintN(Number(bits), shifted << 1n)
  }
  return Number(hash)
}

describe('as netif.h defines it', () => {
  test('with any key, of any packet', () => {
    const keys = fc.uint8Array({ maxLength: 40 })
    fc.assert(
      fc.property(keys, packets([6, 17], 20), fc.nat(63), (key, packet, types) => {
        const { bytes, l4 } = build(packet)
        const shift = packet.version === 4 ? 0 : 2
        const ports =
          packet.protocol === 6 ? HashType.IPV4_TCP << shift : HashType.IPV4_UDP << (shift / 2)
        const type = types & ports || types & (HashType.IPV4 << shift)
        const input = [...packet.source, ...packet.destination]
        if (type === ports) input.push(...bytes.subarray(l4, l4 + 4))
        const value = type === 0 ? 0 : reference(key, input)
        const hash = new FlowHash(Uint8Array.of(1, 2, 3))
        hash.setKey(key)
        expect(hashOf(hash, bytes, types)).toEqual({ value, type })
      }),
    )
  })

  test('parts of a packet are hashed without ports, and what is not IP has no hash', () => {
    const { bytes, l3 } = build(packetOf({ source: [1, 2, 3, 4], destination: [5, 6, 7, 8] }))
    const hash = new FlowHash(KEY)
    const value = reference(KEY, [1, 2, 3, 4, 5, 6, 7, 8])
    bytes[l3 + 6] = 0x20
    expect(hashOf(hash, bytes, ALL)).toEqual({ value, type: HashType.IPV4 })
    bytes[l3 + 7] = 9
    expect(hashOf(hash, bytes, ALL)).toEqual({ value, type: HashType.IPV4 })
    bytes[12] = 0x06
    expect(hashOf(hash, bytes, ALL)).toEqual({ value: 0, type: 0 })
  })
})
