/**
 * Segments and checksums, held against Linux's. The digests are of what Linux 6.18 sent to a TAP
 * device without offloads, through a bridge, for these frames with a virtio header from another TAP
 * device.
 */
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { Checksum, FrameSender, Frames, Gso } from '../src/index.ts'
import { type Packet, build } from './support/packets.ts'

const V4 = { version: 4, source: [192, 0, 2, 1], destination: [192, 0, 2, 250] } as const
const V6 = {
  version: 6,
  source: [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  destination: [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe],
} as const
const VLAN = { type: 0x8100, vlan: 7 }
const TIMESTAMPS = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]
/** ACK with FIN, PSH and CWR, of which segments keep some. */
const FLAGS = 0x99

const packet = (ip: typeof V4 | typeof V6, bytes: number, rest: Partial<Packet> = {}): Packet => ({
  tags: [],
  id: 0xfffe,
  options: [],
  protocol: 6,
  tcpOptions: TIMESTAMPS,
  seq: 0xffff_f000,
  flags: FLAGS,
  ...ip,
  payload: Uint8Array.from({ length: bytes }, (_, i) => i * 7 + (i >> 8)),
  ...rest,
})

const UDP = { protocol: 17, tcpOptions: [] } as const
/**
 * Name, number of segments and digest of them all, packet, and `gsoSize`: 0 for a checksum alone.
 */
const cases: [string, string, Packet, number][] = [
  ['TCP over IPv4', '14 2528c52d3b0b1c5a', packet(V4, 20_001), 1448],
  ['TCP over IPv6', '15 fd7228914ad1f091', packet(V6, 20_001), 1428],
  [
    'IPv4 with options, in two VLANs',
    '7 fb66eec410b6b107',
    packet(V4, 5000, { tags: [VLAN, VLAN], options: [[1, 1, 1, 0]] }),
    777,
  ],
  [
    'IPv6 with a chain, in a VLAN',
    '5 56593a547b75e209',
    packet(V6, 5000, {
      tags: [VLAN],
      options: [
        [1, 4, 0, 0, 0, 0],
        [1, 4, 0, 0, 0, 0],
      ],
    }),
    1001,
  ],
  ['the largest', '45 f61983cc0c382749', packet(V4, 65_400), 1460],
  ['a TCP checksum', '1 bf71477582e82579', packet(V6, 1000), 0],
  ['UDP over IPv4', '1 1070296bf252f978', packet(V4, 1333, UDP), 0],
  ['UDP over IPv6', '1 dd1dc96025f9029e', packet(V6, 7, UDP), 0],
]

test.each(cases)('Linux agrees on %s', (_, digest, sent, gsoSize) => {
  const { bytes, l4, headers } = build(sent)
  const isTcp = sent.protocol === 6
  const gso = gsoSize === 0 ? Gso.NONE : sent.version === 4 ? Gso.TCPV4 : Gso.TCPV6
  const frames = new Frames(1)
  frames.reset(bytes)
  const blank = { checksum: Checksum.BLANK, checksumStart: l4, checksumOffset: isTcp ? 16 : 6 }
  frames.add({ start: 0, length: bytes.length, ...blank, gso, gsoSize, headers })
  const hash = createHash('sha256')
  let count = 0
  const sender = new FrameSender({
    send(segments) {
      count += segments.count
      for (let i = 0; i < segments.count; i++) hash.update(segments.bytes(i))
    },
  })
  sender.send(frames)
  expect(`${count} ${hash.digest('hex').slice(0, 16)}`).toBe(digest)
})
