/** What a card puts on its transmit ring, as a backend that is written by hand sees it. */
import { Checksum, Frames, Gso } from '@xenkit/frames'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bytesOf, connectedVif } from '../support/connected-vif.ts'
import { type HandQueue, NETBACK_OFFER, type SentSlot } from '../support/hand-backend.ts'

const CSUM_BLANK = 1
const DATA_VALIDATED = 2
const MORE_DATA = 4
const EXTRA_INFO = 8

/** A packet that the backend took from the ring, by netback's rules. */
interface Packet {
  readonly bytes: Uint8Array
  readonly flags: number
  readonly extras: DataView[]
  readonly slots: SentSlot[]
}

/** Puts slots together to packets: first slot, extra infos, other slots. */
function packetsOf(queue: HandQueue, slots: SentSlot[]): Packet[] {
  const packets: Packet[] = []
  for (let next = slots.shift(); next; next = slots.shift()) {
    const own = [next]
    const extras: DataView[] = []
    for (let more = (next.flags & EXTRA_INFO) !== 0; more;) {
      const extra = slots.shift()
      if (!extra) throw new Error('an extra info is missing')
      extras.push(extra.raw)
      more = (extra.raw.getUint8(1) & 1) !== 0
    }
    for (let last = next; (last.flags & MORE_DATA) !== 0;) {
      const more = slots.shift()
      if (!more) throw new Error('a slot is missing')
      own.push((last = more))
    }
    const rest = own.slice(1).reduce((sum, { size }) => sum + size, 0)
    const parts = own.map(({ gref, offset, size }, i) =>
      queue.read(gref, offset, i === 0 ? size - rest : size),
    )
    packets.push({
      bytes: Buffer.concat(parts),
      flags: next.flags & ~MORE_DATA,
      extras,
      slots: own,
    })
  }
  return packets
}

/** Answers packets as netback does: each slot, and each extra info after the first slot. */
function answer(queue: HandQueue, packets: readonly Packet[], status = 0): void {
  queue.answer(
    ...packets.flatMap(({ slots: [first, ...rest], extras }) => [
      { id: first?.id ?? 0, status },
      ...extras.map(() => ({ status: 1 })),
      ...rest.map(({ id }) => ({ id, status })),
    ]),
  )
}

test('a frame of one slot: its bytes, its length and no flags', async () => {
  await using r = await connectedVif()
  await r.vif.sendFrame(bytesOf(60))
  const { queue } = r.back
  const [packet, ...more] = packetsOf(queue, queue.sent())
  expect(more).toEqual([])
  expect(packet).toMatchObject({ flags: 0, extras: [] })
  expect(packet?.slots).toHaveLength(1)
  expect(packet?.bytes).toEqual(Buffer.from(bytesOf(60)))
})

test('frames of all lengths arrive whole, with the total length in their first slot', async () => {
  await using r = await connectedVif()
  const { queue } = r.back
  const length = fc.oneof(
    fc.constantFrom(14, 4095, 4096, 4097, 8192, 65_534, 65_535),
    fc.integer({ min: 14, max: 65_535 }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(length, { minLength: 1, maxLength: 8 }), async (lengths) => {
      const frames = new Frames(8)
      frames.reset(Buffer.concat(lengths.map(bytesOf)))
      let start = 0
      for (const each of lengths) {
        frames.add({ start, length: each })
        start += each
      }
      expect(r.vif.send(frames)).toBe(lengths.length)
      const packets = packetsOf(queue, queue.sent())
      expect(packets.map(({ slots: [first] }) => first?.size)).toEqual(lengths)
      expect(packets.map(({ slots }) => slots.length)).toEqual(
        lengths.map((each) => Math.ceil(each / 4096)),
      )
      for (const [i, { bytes }] of packets.entries()) {
        expect(Buffer.compare(bytes, bytesOf(lengths[i] ?? 0))).toBe(0)
      }
      answer(queue, packets)
      await r.vif.writable()
    }),
    { numRuns: 30 },
  )
  expect(r.vif.counts).toMatchObject({ sendErrors: 0, refused: 0 })
})

test('checksums and segments: flags, and an extra info after the first slot', async () => {
  await using r = await connectedVif()
  const { queue } = r.back
  const frames = new Frames(4)
  frames.reset(bytesOf(9000))
  const blank = { checksum: Checksum.BLANK, checksumStart: 34, checksumOffset: 16 }
  frames.add({ start: 0, length: 60, checksum: Checksum.VERIFIED })
  frames.add({ start: 0, length: 60, ...blank })
  const segment = { gsoSize: 1448, headers: 66, ...blank }
  frames.add({ start: 0, length: 9000, gso: Gso.TCPV4, ...segment })
  frames.add({ start: 0, length: 100, gso: Gso.TCPV6, ...segment })
  expect(r.vif.send(frames)).toBe(4)
  const packets = packetsOf(queue, queue.sent())
  const offloaded = CSUM_BLANK | DATA_VALIDATED
  expect(packets.map(({ flags }) => flags)).toEqual([
    DATA_VALIDATED,
    offloaded,
    offloaded | EXTRA_INFO,
    offloaded | EXTRA_INFO,
  ])
  const extras = packets.flatMap((packet) => packet.extras)
  const [low, high] = [1448 & 255, 1448 >> 8]
  expect(extras.map(({ buffer }) => [...new Uint8Array(buffer)])).toEqual([
    [1, 0, low, high, 1, 0, 0, 0, 0, 0, 0, 0],
    [1, 0, low, high, 2, 0, 0, 0, 0, 0, 0, 0],
  ])
  answer(queue, packets)
  await drained(r)
  expect(r.vif.carrier).toBe(true)
})

test('responses with errors are counted by frame, and free their slots', async () => {
  await using r = await connectedVif()
  const { queue } = r.back
  await r.vif.sendFrame(bytesOf(9000))
  answer(queue, packetsOf(queue, queue.sent()), -1)
  await r.vif.sendFrame(bytesOf(60))
  answer(queue, packetsOf(queue, queue.sent()), -2)
  await drained(r)
  expect(r.vif.counts).toMatchObject({ sentFrames: 2, sendErrors: 1, sendDropped: 1 })
})

test('a full ring takes no more, and "writable" resolves once it has room', async () => {
  await using r = await connectedVif()
  const { queue } = r.back
  const frames = new Frames(300)
  frames.reset(bytesOf(64))
  for (let i = 0; i < 300; i++) frames.add({ start: 0, length: 64 })
  expect(r.vif.send(frames)).toBe(256)
  expect(r.vif.send(frames, 256)).toBe(0)
  const packets = packetsOf(queue, queue.sent())
  expect(packets).toHaveLength(256)
  let isWritable = false
  const writable = r.vif.writable().then(() => (isWritable = true))
  answer(queue, packets.slice(0, 16))
  await drained(r)
  expect(isWritable).toBe(false) // the longest frame needs 17 slots
  answer(queue, packets.slice(16))
  await writable
  expect(r.vif.send(frames, 256)).toBe(44)
  expect(queue.sent()).toHaveLength(44)
})

test('several queues share the pages, and each takes frames until its own are used', async () => {
  await using r = await connectedVif({ queues: 4 })
  const frames = new Frames(300)
  frames.reset(bytesOf(64))
  for (let i = 0; i < 300; i++) frames.add({ start: 0, length: 64 })
  for (const [i, queue] of r.back.queues.entries()) {
    expect(r.vif.send(frames, 0, i)).toBe(112)
    const packets = packetsOf(queue, queue.sent())
    expect(packets).toHaveLength(112)
    answer(queue, packets)
  }
})

test('"writable" is rejected when the card is closed', async () => {
  await using r = await connectedVif()
  const frames = new Frames(256)
  frames.reset(bytesOf(64))
  for (let i = 0; i < 256; i++) frames.add({ start: 0, length: 64 })
  expect(r.vif.send(frames)).toBe(256)
  const writable = r.vif.writable()
  const closing = r.vif.close()
  await expect(writable).rejects.toThrow('was closed')
  await r.back.close()
  await closing
})

test('frames that the backend does not take are dropped and counted', async () => {
  const offer = { ...NETBACK_OFFER, 'feature-sg': '0', 'feature-gso-tcpv6': '0' }
  await using r = await connectedVif({ offer })
  expect(r.vif.offloads).toEqual({ checksum4: true, checksum6: true, gso4: true, gso6: false })
  const frames = new Frames(5)
  frames.reset(bytesOf(5000))
  const segment = { checksum: Checksum.BLANK, gsoSize: 1448, headers: 66 }
  frames.add({ start: 0, length: 4097 })
  frames.add({ start: 0, length: 13 })
  frames.add({ start: 0, length: 100, gso: Gso.TCPV6, ...segment })
  frames.add({ start: 0, length: 4096 })
  expect(r.vif.send(frames)).toBe(4)
  expect(r.vif.counts).toMatchObject({ refused: 3, sentFrames: 1 })
  expect(r.back.queue.sent().map(({ size }) => size)).toEqual([4096])
})

test.each([
  { wrong: { id: 3, status: 0 }, why: "has id 3, which isn't in flight" },
  { wrong: { id: 999, status: 0 }, why: "has id 999, which isn't in flight" },
  { wrong: { status: 1 }, why: 'no extra info is in flight' },
])('a response that $why closes the card with that error', async ({ wrong, why }) => {
  await using r = await connectedVif()
  await r.vif.sendFrame(bytesOf(60))
  const ended = r.vif[Symbol.asyncIterator]().next()
  r.back.queue.answer(wrong)
  await expect(ended).rejects.toThrow(why)
  expect(() => r.vif.send(new Frames(1))).toThrow(why)
  await expect(r.vif.writable()).rejects.toThrow(why)
})

test('multicast addresses are sent as dummy packets', async () => {
  await using r = await connectedVif()
  const { queue } = r.back
  const mac = Uint8Array.of(1, 0, 0x5e, 0, 0, 0xfb)
  expect(r.vif.setMulticast(mac, true)).toBe(true)
  expect(r.vif.setMulticast(mac, false)).toBe(true)
  const packets = packetsOf(queue, queue.sent())
  const extras = packets.flatMap((packet) => packet.extras)
  expect(extras.map(({ buffer }) => [...new Uint8Array(buffer)])).toEqual([
    [2, 0, ...mac, 0, 0, 0, 0],
    [3, 0, ...mac, 0, 0, 0, 0],
  ])
  answer(queue, packets)
  expect(r.vif.counts.sentFrames).toBe(0)
})

/** Resolves when the card has handled the events sent before. */
async function drained({
  back,
}: {
  readonly back: { readonly xs: { exists(p: string): unknown } }
}) {
  for (let i = 0; i < 5; i++) await back.xs.exists('/local')
}
