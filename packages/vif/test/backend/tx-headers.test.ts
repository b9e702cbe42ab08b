/** Frames that are to be completed: with a blank checksum, or to be segmented. */
import { Checksum, Gso } from '@xenkit/frames'
import { NETIF_RSP, NETTXF } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type Packet,
  build,
  packets,
  remainder,
  tcp4 as emptyTcp4,
} from '../../../frames/test/support/packets.ts'
import { TxRig } from '../support/tx-rig.ts'

const { csum_blank, data_validated } = NETTXF
const blank = csum_blank | data_validated

const tcp4: Packet = { ...emptyTcp4, payload: new Uint8Array(3000).fill(0x5a) }
const address6 = (last: number): number[] => [0xfd, ...Array.from({ length: 14 }, () => 0), last]
const tcp6: Packet = { ...tcp4, version: 6, source: address6(1), destination: address6(2) }

test('a blank checksum is described by its place', async () => {
  await using rig = await TxRig.open()
  await fc.assert(
    fc.asyncProperty(packets([6, 17], 5000), async (packet) => {
      rig.frames.length = 0
      const { bytes, l4 } = build(packet)
      rig.putFrame(bytes, { flags: blank, id: 5 })
      rig.turn()
      expect(rig.frames).toMatchObject([
        {
          bytes,
          checksum: Checksum.BLANK,
          checksumStart: l4,
          checksumOffset: packet.protocol === 6 ? 16 : 6,
          gso: Gso.NONE,
        },
      ])
      expect(rig.answers().every((answer) => answer.endsWith(':0'))).toBe(true)
    }),
  )
})

test('a GSO frame is described by its segments and headers', async () => {
  await using rig = await TxRig.open()
  await fc.assert(
    fc.asyncProperty(
      packets([6], 60_000),
      fc.integer({ min: 30, max: 9000 }),
      async (packet, size) => {
        rig.frames.length = 0
        const { bytes, l4, headers } = build(packet)
        const type = packet.version === 4 ? Gso.TCPV4 : Gso.TCPV6
        rig.putFrame(bytes, { flags: blank, gso: { type, size } })
        rig.turn()
        const isLong = bytes.length - headers > size
        const split = isLong ? { gso: type, gsoSize: size, headers } : { gso: Gso.NONE }
        const common = { checksum: Checksum.BLANK, checksumStart: l4, checksumOffset: 16 }
        const [frame] = rig.frames
        expect(frame).toMatchObject({ ...common, ...split })
        expect(Buffer.compare(frame?.bytes ?? new Uint8Array(0), bytes)).toBe(0)
        rig.responses()
      },
    ),
  )
})

test.each([4, 6] as const)(
  'a GSO frame of IPv%d without the flag of a blank checksum gets one',
  async (version) => {
    await using rig = await TxRig.open()
    const { bytes, l4, pseudo } = build(version === 4 ? tcp4 : tcp6)
    const complete = bytes.slice()
    complete.set([0x12, 0x34], l4 + 16)
    const type = version === 4 ? Gso.TCPV4 : Gso.TCPV6
    rig.putFrame(complete, { gso: { type, size: 1448 } })
    rig.turn()
    expect(rig.frames).toMatchObject([{ checksum: Checksum.BLANK, gso: type }])
    const sum = rig.frames[0]?.bytes.subarray(l4 + 16, l4 + 18) ?? []
    expect(remainder(sum)).toBe(remainder(pseudo))
    // The guest's own page is untouched.
    expect(rig.page(0).subarray(l4 + 16, l4 + 18)).toEqual(Uint8Array.of(0x12, 0x34))
  },
)

test('what an earlier packet was is forgotten', async () => {
  await using rig = await TxRig.open()
  const { bytes } = build(tcp4)
  rig.putFrame(bytes, { flags: blank, gso: { type: Gso.TCPV4, size: 1448 } })
  rig.turn()
  // More packets than there are columns for.
  for (let i = 0; i < 300; i++) {
    rig.put({ gref: rig.gref(2), size: 60, id: i })
    rig.turn()
    expect(rig.responses().at(-1)?.status).toBe(NETIF_RSP.OKAY)
  }
  expect(rig.frames.slice(1).every(({ gso }) => gso === Gso.NONE)).toBe(true)
})

interface Lie {
  readonly packet?: Packet
  /** Changes the frame's bytes. */
  readonly change?: (bytes: Uint8Array, built: ReturnType<typeof build>) => void
  /** Bytes of the frame that are sent. */
  readonly length?: (built: ReturnType<typeof build>) => number
  /** GSO of the frame; default: none, and a blank checksum. */
  readonly gso?: { readonly type: number; readonly size: number }
}

const gso4 = { type: Gso.TCPV4, size: 1448 }
const gso6 = { type: Gso.TCPV6, size: 1448 }
const udp4: Packet = { ...tcp4, protocol: 17 }
const set =
  (offset: number, value: number, from: 'l3' | 'l4' | 'frame' = 'l3') =>
  (bytes: Uint8Array, built: ReturnType<typeof build>): void => {
    bytes[offset + (from === 'frame' ? 0 : built[from])] = value
  }

const LIES: Record<string, Lie> = {
  'an EtherType that is not IP': { change: set(12, 0x09, 'frame') },
  'nine VLAN tags': {
    packet: { ...tcp4, tags: Array.from({ length: 9 }, () => ({ type: 0x8100, vlan: 1 })) },
  },
  'a VLAN tag past the end': {
    packet: { ...tcp4, tags: [{ type: 0x8100, vlan: 1 }] },
    length: () => 16,
  },
  'an IP version of 6 in an IPv4 frame': { change: set(0, 0x65) },
  'an IPv4 header of 16 bytes': { change: set(0, 0x44) },
  'an IPv4 header past the total length': {
    packet: { ...tcp4, payload: new Uint8Array(0) },
    change: set(0, 0x4f),
  },
  'a total length past the frame': { change: set(2, 0xff) },
  'a total length within the header': { change: (b, { l3 }) => b.set([0, 19], l3 + 2) },
  'an IPv4 fragment with more to come': { change: set(6, 0x20) },
  'an IPv4 fragment with an offset': { change: set(7, 1) },
  'an IPv4 fragment, GSO': { change: set(6, 0x20), gso: gso4 },
  'a protocol without a checksum': { change: set(9, 1) },
  'UDP with a GSO of TCP': { packet: udp4, gso: gso4 },
  'IPv6 with a GSO of IPv4': { packet: tcp6, gso: gso4 },
  'IPv4 with a GSO of IPv6': { gso: gso6 },
  'a TCP header of 16 bytes': { change: set(12, 0x40, 'l4') },
  'a TCP header of 16 bytes, GSO': { change: set(12, 0x40, 'l4'), gso: gso4 },
  'a TCP header past the frame': {
    packet: { ...tcp4, payload: new Uint8Array(8) },
    change: set(12, 0xf0, 'l4'),
  },
  'a TCP header past the frame, GSO': {
    packet: { ...tcp4, payload: new Uint8Array(8) },
    change: set(12, 0xf0, 'l4'),
    gso: gso4,
  },
  'an IPv4 frame that ends in its TCP header': { length: ({ l4 }) => l4 + 19 },
  'a GSO frame that ends in its TCP header': { length: ({ l4 }) => l4 + 19, gso: gso4 },
  'a UDP frame that ends in its header': { packet: udp4, length: ({ l4 }) => l4 + 7 },
  'an IPv6 header past the frame': { packet: tcp6, length: ({ l3 }) => l3 + 39 },
  'an IPv6 length past the frame': { packet: tcp6, change: set(4, 0xff) },
  'an IPv6 header that ends in no upper layer': { packet: tcp6, change: set(6, 59) },
  'an IPv6 extension past the frame': {
    packet: { ...tcp6, options: [[1, 4, 0, 0, 0, 0]] },
    change: set(41, 255),
  },
  'a chain of IPv6 extensions without end': {
    packet: { ...tcp6, options: Array.from({ length: 40 }, () => [1, 4, 0, 0, 0, 0]) },
  },
  'more segments than 2048': { gso: { type: Gso.TCPV4, size: 1 } },
}

test.each(Object.entries(LIES))(
  'a frame with %s is dropped, and the next one is sent',
  async (_, { packet = tcp4, change, length, gso }) => {
    await using rig = await TxRig.open()
    const built = build(packet)
    const bytes = built.bytes.slice(0, length?.(built) ?? built.bytes.length)
    change?.(bytes, built)
    rig.putFrame(bytes, gso ? { flags: blank, gso } : { flags: blank })
    rig.put({ gref: rig.gref(2), size: 60, id: 77 })
    rig.turn()
    expect(rig.frames).toHaveLength(1)
    expect(rig.frames[0]?.bytes).toHaveLength(60)
    const answers = rig.answers()
    expect(answers.at(-1)).toBe('77:0')
    expect(answers[0]).toBe(`0:${NETIF_RSP.ERROR}`)
    expect(rig.counters.stats).toMatchObject({ framesSent: 1, sendErrors: 1 })
    expect(rig.failures).toEqual([])
  },
)

test('whatever the bytes, what is said of a frame lies within it', async () => {
  await using rig = await TxRig.open()
  const change = fc.record({ at: fc.nat(200), value: fc.nat(255) })
  const gsoArbitrary = fc.record({
    type: fc.constantFrom(Gso.TCPV4, Gso.TCPV6),
    size: fc.integer({ min: 1, max: 3000 }),
  })
  await fc.assert(
    fc.asyncProperty(
      packets([6, 17], 300),
      fc.array(change, { maxLength: 4 }),
      fc.nat(400),
      fc.option(gsoArbitrary, { nil: undefined }),
      async (packet, changes, cut, gso) => {
        rig.frames.length = 0
        const whole = build(packet).bytes
        for (const { at, value } of changes) whole[at % whole.length] = value
        const bytes = whole.slice(0, Math.max(14, whole.length - (cut < 300 ? 0 : cut - 300)))
        rig.putFrame(bytes, gso ? { flags: blank, gso } : { flags: blank })
        rig.turn()
        const [frame] = rig.frames
        const isSent = rig.answers()[0] === '0:0'
        expect(frame !== undefined).toBe(isSent)
        if (!frame) return
        expect(frame.checksum).toBe(Checksum.BLANK)
        expect(frame.checksumStart).toBeGreaterThanOrEqual(34)
        expect(frame.checksumStart + frame.checksumOffset + 2).toBeLessThanOrEqual(bytes.length)
        if (frame.gso === Gso.NONE) return
        expect(frame.headers).toBeGreaterThanOrEqual(frame.checksumStart + 20)
        expect(frame.headers).toBeLessThan(bytes.length - frame.gsoSize)
      },
    ),
    { numRuns: 1000 },
  )
})
