import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  ALL_OFFLOADS,
  Checksum,
  FrameSender,
  Frames,
  Gso,
  type LinkEnd,
  NO_OFFLOADS,
  type Offloads,
} from '../src/index.ts'
import { type Built, type Packet, build, isValid, packets } from './support/packets.ts'

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
  )
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
