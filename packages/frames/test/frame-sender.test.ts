import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  ALL_OFFLOADS,
  Checksum,
  FrameSender,
  Frames,
  Gso,
  Headers,
  type LinkEnd,
  NO_OFFLOADS,
  type Offloads,
} from '../src/index.ts'
import { type Built, type Packet, build, isValid, packets, remainder } from './support/packets.ts'

interface Received {
  readonly bytes: Uint8Array
  readonly checksum: number
  readonly gso: number
}

/** An end that keeps a copy of what it gets. */
class Keeper implements LinkEnd {
  readonly offloads: Offloads
  readonly received: Received[] = []
  readonly batches: Frames[] = []

  constructor(offloads: Offloads) {
    this.offloads = offloads
  }

  send(frames: Frames): void {
    this.batches.push(frames)
    for (let i = 0; i < frames.count; i++) {
      const [checksum = 0, gso = 0] = [frames.checksum[i], frames.gso[i]]
      this.received.push({ bytes: frames.bytes(i).slice(), checksum, gso })
    }
  }
}

/** A batch of the packets' frames, each at an address of its own. */
function batchOf(all: readonly Packet[], gsoSize = 0): { frames: Frames; built: Built[] } {
  const built = all.map(build)
  const memory = new Uint8Array(built.reduce((sum, b) => sum + b.bytes.length + 5, 64))
  const frames = new Frames(Math.max(1, all.length))
  frames.reset(memory.subarray(3))
  let start = 1
  for (const [i, packet] of all.entries()) {
    const { bytes, l4, headers } = built[i] ?? expect.fail()
    frames.memory.set(bytes, start)
    frames.add({
      start,
      length: bytes.length,
      checksum: Checksum.BLANK,
      checksumStart: l4,
      checksumOffset: packet.protocol === 6 ? 16 : 6,
      ...(gsoSize > 0
        ? { gso: packet.version === 4 ? Gso.TCPV4 : Gso.TCPV6, gsoSize, headers }
        : {}),
    })
    start += bytes.length + (i % 5)
  }
  return { frames, built }
}

/** A frame's bytes, for comparison: its checksum is checked by the sum over all of it. */
const withoutField = (bytes: Uint8Array, at: number): Buffer => {
  const copy = Buffer.from(bytes)
  copy.writeUInt16BE(0, at)
  return copy
}

test('passes a batch on when the end takes all of it', () => {
  fc.assert(
    fc.property(fc.array(packets([6, 17], 100), { maxLength: 5 }), (all) => {
      const end = new Keeper(ALL_OFFLOADS)
      const { frames } = batchOf(all)
      new FrameSender(end).send(frames)
      expect(end.batches).toEqual([frames])
      expect(end.batches[0]).toBe(frames)
    }),
  )
})

test('completes checksums, and leaves the batch as it was', () => {
  fc.assert(
    fc.property(fc.array(packets([6, 17], 1600), { maxLength: 5 }), (all) => {
      const end = new Keeper(NO_OFFLOADS)
      const { frames, built } = batchOf(all)
      const before = frames.memory.slice()
      new FrameSender(end).send(frames)
      expect(frames.memory).toEqual(before)
      expect(end.received).toHaveLength(all.length)
      for (const [i, { bytes, checksum }] of end.received.entries()) {
        const { l4, pseudo, bytes: sent } = built[i] ?? expect.fail()
        const field = l4 + (all[i]?.protocol === 6 ? 16 : 6)
        expect(checksum).toBe(Checksum.COMPLETE)
        expect(withoutField(bytes, field)).toEqual(withoutField(sent, field))
        expect(isValid([...pseudo, ...bytes.subarray(l4)])).toBe(true)
        expect(bytes.subarray(field, field + 2)).not.toEqual(Uint8Array.of(0, 0))
      }
    }),
  )
})

test('completes tagged frames alone, when the end takes none that are incomplete', () => {
  fc.assert(
    fc.property(fc.array(packets([6, 17], 300), { maxLength: 5 }), (all) => {
      const end = new Keeper({ ...ALL_OFFLOADS, tagged: false })
      const { frames, built } = batchOf(all)
      new FrameSender(end).send(frames)
      expect(end.received).toHaveLength(all.length)
      for (const [i, { bytes, checksum }] of end.received.entries()) {
        const { l4, pseudo, bytes: sent } = built[i] ?? expect.fail()
        const isTagged = (all[i]?.tags.length ?? 0) > 0
        expect(checksum).toBe(isTagged ? Checksum.COMPLETE : Checksum.BLANK)
        if (isTagged) expect(isValid([...pseudo, ...bytes.subarray(l4)])).toBe(true)
        else expect(Buffer.from(bytes)).toEqual(Buffer.from(sent))
      }
    }),
  )
})

/** The segments of a packet, as the rules of TSO say, each built from its fields. */
function segmentsOf(packet: Packet, size: number): Packet[] {
  const count = Math.max(1, Math.ceil(packet.payload.length / size))
  return Array.from({ length: count }, (_, i) => ({
    ...packet,
    id: (packet.id + i) % 65_536,
    seq: (packet.seq + i * size) % 2 ** 32,
    flags: [...(i > 0 ? [0x80] : []), ...(i + 1 < count ? [0x01, 0x08] : [])].reduce(
      (flags, bit) => flags - (flags & bit),
      packet.flags,
    ),
    payload: packet.payload.slice(i * size, (i + 1) * size),
  }))
}

test('splits TCP segments', () => {
  fc.assert(
    fc.property(packets([6], 6000), fc.integer({ min: 8, max: 3000 }), (packet, size) => {
      const end = new Keeper({ ...NO_OFFLOADS, checksum4: true, checksum6: true })
      const { frames } = batchOf([packet], size)
      const before = frames.memory.slice()
      new FrameSender(end).send(frames)
      expect(frames.memory).toEqual(before)
      const segments = segmentsOf(packet, size)
      expect(end.received).toHaveLength(segments.length)
      for (const [i, segment] of segments.entries()) {
        const { bytes, l4, pseudo } = build(segment)
        const { bytes: got, checksum, gso } = end.received[i] ?? expect.fail()
        expect({ checksum, gso }).toEqual({ checksum: Checksum.COMPLETE, gso: Gso.NONE })
        expect(withoutField(got, l4 + 16)).toEqual(withoutField(bytes, l4 + 16))
        expect(isValid([...pseudo, ...got.subarray(l4)])).toBe(true)
      }
    }),
    { numRuns: 40 },
  )
})

test('sends frames in order, whether or not the end takes them', () => {
  const offloads = fc.record({ checksum4: fc.boolean(), checksum6: fc.boolean() })
  const kinds = fc.array(fc.tuple(packets([6], 9000), fc.boolean()), { maxLength: 12 })
  fc.assert(
    fc.property(kinds, offloads, fc.boolean(), (all, taken, gso6) => {
      const end = new Keeper({ ...taken, gso4: false, gso6 })
      const { frames } = batchOf(
        all.map(([packet], i) => ({ ...packet, id: i, seq: i << 20 })),
        600,
      )
      // Some of the frames are to be split, some have a blank checksum alone.
      for (const [i, [, isGso]] of all.entries()) if (!isGso) frames.gso[i] = Gso.NONE
      new FrameSender(end).send(frames)
      const sent = all.flatMap(([packet, isGso], i) => {
        const is4 = packet.version === 4
        const isTaken = isGso ? !is4 && gso6 : is4 ? taken.checksum4 : taken.checksum6
        const checksum = isTaken ? Checksum.BLANK : Checksum.COMPLETE
        const count = isGso && !isTaken ? Math.max(1, Math.ceil(packet.payload.length / 600)) : 1
        return Array.from({ length: count }, (_, k) => [(i << 20) + 600 * k, checksum])
      })
      const got = end.received.map(({ bytes, checksum }) => {
        const headers = new Headers()
        headers.parse(bytes, 0, bytes.length)
        return [Buffer.from(bytes.buffer).readUInt32BE(headers.l4 + 4), checksum]
      })
      expect(got).toEqual(sent)
    }),
  )
})

test('a blank checksum’s field may hold anything, and padding too', () => {
  fc.assert(
    fc.property(packets([6, 17], 20), fc.nat(0xffff), fc.nat(255), (packet, field, padding) => {
      const { bytes, l4, pseudo } = build(packet)
      const offset = packet.protocol === 6 ? 16 : 6
      const memory = new Uint8Array(bytes.length + 9).fill(padding)
      memory.set(bytes)
      Buffer.from(memory.buffer).writeUInt16BE(field, l4 + offset)
      const frames = new Frames(1)
      frames.reset(memory)
      const blank = { checksum: Checksum.BLANK, checksumStart: l4, checksumOffset: offset }
      frames.add({ start: 0, length: memory.length, ...blank })
      const end = new Keeper(NO_OFFLOADS)
      new FrameSender(end).send(frames)
      const [got] = end.received
      expect(got?.bytes.subarray(bytes.length)).toEqual(new Uint8Array(9).fill(padding))
      expect(isValid([...pseudo, ...(got?.bytes.subarray(l4, bytes.length) ?? [])])).toBe(true)
    }),
  )
})

test('a checksum elsewhere, as in a tunnel, is the sum from its start over the field', () => {
  const memory = Uint8Array.from({ length: 100 }, (_, i) => 3 * i)
  const frames = new Frames(2)
  frames.reset(memory)
  const blank = { start: 0, length: 100, checksum: Checksum.BLANK, checksumStart: 61 }
  frames.add({ ...blank, checksumOffset: 16 })
  frames.add({ ...blank, checksumOffset: 15 })
  const end = new Keeper(NO_OFFLOADS)
  const sender = new FrameSender(end)
  sender.send(frames)
  const [got] = end.received
  // The field held a part of the sum.
  expect(isValid([...memory.subarray(77, 79), ...(got?.bytes.subarray(61) ?? []), 0])).toBe(true)
  expect(sender.dropped).toBe(1)
})

test('what a checksum of 0 would say is sent as 0xffff', () => {
  const { frames, built } = batchOf([udpOfSum0()])
  const end = new Keeper(NO_OFFLOADS)
  new FrameSender(end).send(frames)
  const field = (built[0]?.l4 ?? 0) + 6
  expect([...(end.received[0]?.bytes.subarray(field, field + 2) ?? [])]).toEqual([0xff, 0xff])
})

/** A packet whose sum without the checksum is 0xffff. */
function udpOfSum0(): Packet {
  const packet: Packet = {
    tags: [],
    version: 4,
    source: [1, 2, 3, 4],
    destination: [5, 6, 7, 8],
    id: 0,
    options: [],
    protocol: 17,
    tcpOptions: [],
    seq: 0,
    flags: 0,
    payload: new Uint8Array(2),
  }
  const { bytes, l4, pseudo } = build(packet)
  const missing = 0xffff - remainder([...pseudo, ...withoutField(bytes, l4 + 6).subarray(l4)])
  return { ...packet, payload: Uint8Array.of(missing >> 8, missing & 255) }
}

test('an end may make its link send more before it returns', () => {
  const received: number[] = []
  const packet = udpOfSum0()
  const other = batchOf([{ ...packet, id: 100 }]).frames
  const sender = new FrameSender({
    send(frames) {
      if (received.length === 0) {
        received.push(-1)
        sender.send(other)
      }
      for (let i = 0; i < frames.count; i++) {
        received.push(Buffer.from(frames.bytes(i)).readUInt16BE(18))
      }
    },
  })
  const outer = batchOf([1, 2, 3].map((id) => ({ ...packet, id }))).frames
  // The second time there is memory of the first.
  for (let time = 0; time < 2; time++) {
    received.length = 0
    sender.send(outer)
    expect(received).toEqual([-1, 100, 1, 2, 3])
  }
})

test.each([
  ['sizes below 8', { gsoSize: 7 }],
  ['another version of IP', { gso: Gso.TCPV6 }],
])('a GSO frame of %s is dropped', (_, columns) => {
  const packet = { ...udpOfSum0(), protocol: 6 as const, payload: new Uint8Array(50) }
  const { frames } = batchOf([packet], 10)
  const end = new Keeper({ ...ALL_OFFLOADS, gso4: false, gso6: false })
  const sender = new FrameSender(end)
  for (const [column, value] of Object.entries(columns)) {
    frames[column as 'gso' | 'gsoSize'][0] = value
  }
  sender.send(frames)
  expect([end.received.length, sender.dropped]).toEqual([0, 1])
})

test('a fragment can’t be split', () => {
  const packet = { ...udpOfSum0(), protocol: 6 as const, payload: new Uint8Array(50) }
  const { frames, built } = batchOf([packet], 10)
  frames.memory[(frames.start[0] ?? 0) + (built[0]?.l3 ?? 0) + 6] = 0x20
  const sender = new FrameSender(new Keeper(NO_OFFLOADS))
  sender.send(frames)
  expect(sender.dropped).toBe(1)
})

test('the largest frame in the smallest segments', () => {
  const payload = Uint8Array.from({ length: 65_000 }, (_, i) => i * 7)
  const { frames, built } = batchOf([{ ...udpOfSum0(), protocol: 6, payload }], 8)
  const end = new Keeper(NO_OFFLOADS)
  new FrameSender(end).send(frames)
  expect(end.received).toHaveLength(65_000 / 8)
  const { headers = 0 } = built[0] ?? {}
  expect(Buffer.concat(end.received.map(({ bytes }) => bytes.subarray(headers)))).toEqual(
    Buffer.from(payload),
  )
})

test('frames that are larger together than the memory for copies arrive whole', () => {
  const payload = Uint8Array.from({ length: 60_000 }, (_, i) => i * 5)
  const { frames, built } = batchOf(Array.from({ length: 5 }, () => ({ ...udpOfSum0(), payload })))
  const end = new Keeper(NO_OFFLOADS)
  new FrameSender(end).send(frames)
  expect(end.received).toHaveLength(5)
  for (const { bytes } of end.received) {
    const { l4, pseudo } = built[0] ?? expect.fail()
    expect(Buffer.compare(bytes.subarray(-60_000), payload)).toBe(0)
    expect(isValid([...pseudo, ...bytes.subarray(l4)])).toBe(true)
  }
})

describe('frames that lie', () => {
  test('whatever the bytes and columns, the end gets frames within the memory', () => {
    const columns = fc.record({
      checksum: fc.constantFrom(Checksum.COMPLETE, Checksum.BLANK),
      checksumStart: fc.nat(200),
      checksumOffset: fc.nat(40),
      gso: fc.constantFrom(Gso.NONE, Gso.TCPV4, Gso.TCPV6),
      gsoSize: fc.nat(100),
      headers: fc.nat(200),
    })
    const lies = fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 4 })
    fc.assert(
      fc.property(packets([6, 17], 60), lies, columns, fc.nat(100), (packet, bad, column, cut) => {
        const { bytes } = build(packet)
        for (const [at, value] of bad) if (at < bytes.length) bytes[at] = value
        const length = Math.max(14, bytes.length - cut)
        const frames = new Frames(1)
        frames.reset(bytes)
        frames.add({ start: 0, length, ...column })
        const end = new Keeper(NO_OFFLOADS)
        const sender = new FrameSender(end)
        sender.send(frames)
        const sent = end.received.reduce((sum, frame) => sum + frame.bytes.length, 0)
        // Each segment repeats headers, so that there may be more bytes than in the frame.
        if (sender.dropped > 0) expect(sent).toBe(0)
        else expect(sent).toBeGreaterThanOrEqual(length)
      }),
      { numRuns: 3000 },
    )
  })
})
