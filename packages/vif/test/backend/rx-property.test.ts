/**
 * Any frames through any pattern of posted buffers: what the guest reassembles is what was sent, in
 * order, and a ring of garbage harms nobody.
 */
import { Checksum, type Frames, Gso } from '@xenkit/frames'
import { RingProtocolError } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { until } from '../../../backend/test/support/until.ts'
import { NO_HASH } from '../../src/backend/rx-packets.ts'
import type { ReceivedPacket } from '../support/raw-rx-front.ts'
import { content, rxRig } from '../support/rx-rig.ts'

interface Sent {
  readonly length: number
  readonly checksum: Checksum
  readonly gso: Gso
  readonly hash: number
}

const length = fc.oneof(
  fc.integer({ min: 14, max: 128 }),
  fc.integer({ min: 14, max: 65_535 }),
  fc.constantFrom(14, 3839, 3840, 3841, 4095, 4096, 4097, 8192, 8193, 61_440, 65_535),
)

const sent: fc.Arbitrary<Sent> = fc
  .record({
    length,
    checksum: fc.constantFrom(...Object.values(Checksum)),
    gso: fc.constantFrom(Gso.NONE, Gso.NONE, Gso.TCPV4, Gso.TCPV6),
    hash: fc.constantFrom(NO_HASH, NO_HASH, 0, 1, 2, 3),
  })
  .map((frame) => (frame.gso === Gso.NONE ? frame : { ...frame, checksum: Checksum.BLANK }))

/** A batch to send, or a number of buffers to post. */
const step = fc.oneof(
  fc.array(sent, { minLength: 1, maxLength: 8 }),
  fc.integer({ min: 1, max: 40 }),
)

const index = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 2 ** 32 - 300, max: 2 ** 32 - 1 }),
  fc.integer({ min: 2 ** 31 - 300, max: 2 ** 31 }),
)

const FLAGS = { [Checksum.COMPLETE]: 0, [Checksum.VERIFIED]: 1, [Checksum.BLANK]: 3 } as const

/** A frame as netif.h says that a guest gets it. */
function expected(frame: Sent, seed: number, headroom: number): Omit<ReceivedPacket, 'bytes'> {
  const room = 4096 - headroom
  const parts = Array.from({ length: Math.ceil(frame.length / room) }, (_, i) =>
    Math.min(4096, headroom + frame.length - i * room),
  )
  const extras = []
  if (frame.gso !== Gso.NONE) extras.push([1, seed & 0xff, 1, frame.gso, 0, 0, 0])
  if (frame.hash !== NO_HASH) extras.push([4, frame.hash, 1, seed, 2, 3, 0xff])
  if (headroom > 0) extras.push([5, headroom & 0xff, headroom >> 8, 0, 0, 0, 0])
  return { error: 0, flags: FLAGS[frame.checksum], parts, extras }
}

test('frames arrive whole and in order, each in the right buffers', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 12 }),
      fc.constantFrom(0, 0, 1, 64, 256, 3840),
      index,
      async (steps, headroom, start) => {
        await using r = await rxRig({ features: { xdpHeadroom: headroom }, index: start })
        const waiting: (readonly [Sent, number])[] = []
        let seed = 0
        const send = (all: readonly Sent[]): void => {
          const seeds = all.map(() => seed++ & 0xff)
          const frames = r.batch(all.map(({ length }, i) => content(length, seeds[i])))
          for (const [i, frame] of all.entries()) {
            frames.checksum[i] = frame.checksum
            frames.gso[i] = frame.gso
            frames.gsoSize[i] = 256 + (seeds[i] ?? 0)
            const { parts, extras } = expected(frame, seeds[i] ?? 0, headroom)
            // With headroom, segments are to be split by the sender.
            const split = headroom > 0 && frame.gso !== Gso.NONE
            if (split || parts.length + extras.length > 18) continue
            waiting.push([frame, seeds[i] ?? 0])
          }
          r.server.send(frames, {
            type: Uint8Array.from(all, ({ hash }) => hash),
            value: Uint32Array.from(seeds, (value) => 0xff03_0200 + value),
          })
        }
        /** Lengths of what waits: not more than the queue takes. */
        const bytes = (): number => waiting.reduce((sum, [frame]) => sum + frame.length, 0)
        const reap = (): number => {
          const packets = r.front.reap()
          for (const { bytes: got, ...packet } of packets) {
            const [frame, value] = waiting.shift() ?? []
            if (!frame) throw new Error('a packet that was not sent')
            expect(packet).toEqual(expected(frame, value ?? 0, headroom))
            expect(Buffer.compare(got ?? content(0), content(frame.length, value))).toBe(0)
          }
          return packets.length
        }
        const post = (count: number): void => r.post(Math.min(count, 256 - r.front.posted))
        for (const each of steps) {
          if (typeof each === 'number') post(each)
          else if (bytes() < 2 ** 19) send(each)
          await new Promise((resolve) => setImmediate(resolve))
          reap()
        }
        while (waiting.length > 0) {
          // The guest posts as few as it can, and sends an event only if it is asked to.
          post(1)
          await until(() => reap() > 0 || r.front.posted < 19)
        }
        const { receiveErrors } = r.counters.stats
        expect([r.calls.filter((call) => typeof call !== 'string'), receiveErrors]).toEqual([[], 0])
      },
    ),
    { numRuns: 60 },
  )
}, 120_000)

test('a ring of garbage is served, or stops with a RingProtocolError', async () => {
  const write = fc.tuple(fc.integer({ min: 0, max: 1023 }), fc.integer())
  const move = fc.oneof(
    fc.record({ index: fc.integer({ min: -2, max: 300 }) }),
    fc.record({ words: fc.array(write, { maxLength: 20 }) }),
    fc.record({ frames: fc.array(sent, { minLength: 1, maxLength: 4 }) }),
    fc.record({ turn: fc.constant(true) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(move, { minLength: 1, maxLength: 30 }), async (moves) => {
      await using r = await rxRig()
      for (const each of moves) {
        if ('index' in each) Atomics.add(r.front.words, 0, each.index)
        else if ('words' in each) for (const [at, word] of each.words) r.front.words[at] = word
        else if ('turn' in each) r.server.turn()
        else {
          const frames: Frames = r.batch(each.frames.map(({ length }) => content(length)))
          r.server.send(frames)
        }
      }
      const errors = r.calls.filter((call) => typeof call !== 'string')
      expect(errors.length).toBeLessThanOrEqual(1)
      for (const error of errors) expect(error).toBeInstanceOf(RingProtocolError)
      // The rest of the guest's memory is as it was.
      expect(r.pool.pages).toBeLessThanOrEqual(256)
    }),
    { numRuns: 60 },
  )
}, 120_000)
