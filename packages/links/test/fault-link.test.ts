/** `faultLink`: faults as planned, and random plans, with fake timers. */
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Checksum, Frames, type Link, NO_OFFLOADS } from '@xenkit/frames'
import {
  type FrameFault,
  type PlannedFrame,
  faultLink,
  openCable,
  randomFrameFaults,
} from '../src/index.ts'
import { ethernet } from './support/frames.ts'
import { TestCard } from './support/test-card.ts'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

const frame = (number: number): number[] => ethernet({ payload: [number >> 8, number & 0xff] })
const numbers = (card: TestCard): number[] =>
  card.take().map((it) => ((it[14] ?? 0) << 8) | (it[15] ?? 0))

async function faulty(plan: (frame: PlannedFrame) => FrameFault | undefined) {
  const [near, far] = openCable()
  const card = await new TestCard().plugInto(faultLink(near, plan))
  const peer = await new TestCard().plugInto(far)
  return { card, peer }
}

/** Sends frames 0, 1, 2 ..., one for each fault, and returns the peer. */
async function sent(...faults: readonly (FrameFault | undefined)[]) {
  const left = [...faults]
  const { card, peer } = await faulty(() => left.shift())
  card.transmit(...faults.map((_, i) => frame(i)))
  return { card, peer }
}

test('the plan sees every frame', async () => {
  const seen: PlannedFrame[] = []
  const { card, peer } = await faulty((it) => void seen.push(it))
  card.transmit(frame(1), ethernet({}))
  peer.transmit(frame(2))
  expect(seen).toEqual([
    { direction: 'from-card', bytes: 16 },
    { direction: 'from-card', bytes: 14 },
    { direction: 'to-card', bytes: 16 },
  ])
  expect(numbers(card)).toEqual([2])
  expect(numbers(peer)).toEqual([1, 0])
})

test('a plan that throws drops the frame, and its card fails', async () => {
  const error = new Error('mistake')
  let count = 0
  const { card, peer } = await faulty(() => {
    if (++count === 2) throw error
    return undefined
  })
  card.transmit(frame(1), frame(2), frame(3))
  expect(card.failures).toEqual([error])
  expect(numbers(peer)).toEqual([1, 3])
})

test('frames are lost and doubled', async () => {
  const { peer } = await sent(undefined, { isLost: true, copies: 1 }, { copies: 2 }, {})
  expect(numbers(peer)).toEqual([0, 2, 2, 2, 3])
})

test("a damaged frame has one wrong bit, isn't said to be verified, and its sender's is right", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), async (flippedBit) => {
      const [near, far] = openCable()
      const card = await new TestCard().plugInto(faultLink(near, () => ({ flippedBit })))
      const checksums: (number | undefined)[] = []
      const peer = new TestCard({ onFrames: ({ checksum }) => void checksums.push(checksum[0]) })
      await peer.plugInto(far)
      const batch = new Frames(1)
      batch.reset(Uint8Array.from(frame(5)))
      batch.add({ start: 0, length: 16, checksum: Checksum.VERIFIED })
      card.link.send(batch)
      expect([...batch.memory]).toEqual(frame(5))
      const [got = []] = peer.take()
      const wrong = got.map((byte, i) => byte ^ (frame(5)[i] ?? 0))
      const bit = flippedBit % 128
      expect(wrong).toEqual(wrong.map((_, i) => (i === bit >> 3 ? 1 << (bit & 7) : 0)))
      expect(checksums).toEqual([Checksum.COMPLETE])
    }),
  )
})

test('a delayed frame holds up those behind it', async () => {
  const { card, peer } = await sent({}, { delayMs: 30 }, {}, { delayMs: 10 }, { delayMs: 50 })
  expect(numbers(peer)).toEqual([0])
  vi.advanceTimersByTime(29)
  expect(numbers(peer)).toEqual([])
  vi.advanceTimersByTime(1)
  expect(numbers(peer)).toEqual([1, 2, 3])
  vi.advanceTimersByTime(20)
  card.transmit(frame(9))
  expect(numbers(peer)).toEqual([4, 9])
})

test('a frame that is overtaken follows the frames that overtake it', async () => {
  const { card, peer } = await sent({ overtakenBy: 2 }, {}, { overtakenBy: 1 }, {}, {})
  expect(numbers(peer)).toEqual([1, 0, 3, 2, 4])
  await card.link.close()
})

test('a frame that nothing overtakes arrives after 100 ms', async () => {
  const { peer } = await sent({}, { overtakenBy: 1 })
  vi.advanceTimersByTime(99)
  expect(numbers(peer)).toEqual([0])
  vi.advanceTimersByTime(1)
  expect(numbers(peer)).toEqual([1])
})

test('what is late is bounded', async () => {
  let arrived = 0
  const base: Link = { plug: () => ({ send: () => void arrived++, close: () => {} }) }
  const card = await new TestCard().plugInto(faultLink(base, () => ({ delayMs: 10 })))
  const batch = new Frames(300)
  batch.reset(new Uint8Array(65_000))
  for (let i = 0; i < batch.capacity; i++) batch.add({ start: 0, length: 65_000 })
  const most = Math.floor(2 ** 24 / (65_000 + 512))
  for (let i = 1; i <= 2; i++) {
    card.link.send(batch)
    vi.advanceTimersByTime(10)
    expect(arrived).toBe(i * most)
  }
})

test('an unplugged card gets nothing that is late, and leaves no timer', async () => {
  const { card, peer } = await faulty(() => ({ delayMs: 10 }))
  peer.transmit(frame(1))
  card.transmit(frame(2))
  expect(vi.getTimerCount()).toBe(2)
  await card.link.close()
  expect(vi.getTimerCount()).toBe(0)
  expect([card.take(), peer.take()]).toEqual([[], []])
})

test('a link with faults takes complete frames only', async () => {
  const { card } = await faulty(() => undefined)
  expect(card.link.offloads).toEqual(NO_OFFLOADS)
})

test('nothing but the planned happens to any frames', async () => {
  const fault = fc.record(
    {
      isLost: fc.boolean(),
      copies: fc.integer({ min: 0, max: 2 }),
      delayMs: fc.integer({ min: 0, max: 20 }),
      overtakenBy: fc.integer({ min: 0, max: 3 }),
    },
    { requiredKeys: [] },
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fault, fc.nat(5)), { maxLength: 60 }), async (sends) => {
      let current: FrameFault = {}
      const { card, peer } = await faulty(() => current)
      for (const [i, [planned, after]] of sends.entries()) {
        current = planned
        card.transmit(frame(i))
        vi.advanceTimersByTime(after)
      }
      vi.advanceTimersByTime(1000)
      const got = numbers(peer)
      const expected = sends.flatMap(([{ isLost, copies = 0 }], i) =>
        isLost === true ? [] : Array.from({ length: copies + 1 }, () => i),
      )
      expect(got.toSorted((a, b) => a - b)).toEqual(expected)
      const inOrder = got.filter((i) => (sends[i]?.[0].overtakenBy ?? 0) === 0)
      expect(inOrder).toEqual(inOrder.toSorted((a, b) => a - b))
    }),
  )
})

test('random faults: the same for one seed, about as frequent as requested', () => {
  const odds = { loss: 0.1, corrupt: 0.2, duplicate: 0.3, delay: 0.4, reorder: 0.5 }
  const faults = (seed: number, o = {}): FrameFault[] =>
    Array.from({ length: 4000 }, () => ({ direction: 'to-card', bytes: 100 }) as const).map(
      randomFrameFaults({ seed, ...odds, longestDelayMs: 50, ...o }),
    )
  const got = faults(42)
  expect(faults(42)).toEqual(got)
  expect(faults(43)).not.toEqual(got)
  const share = (fits: (fault: FrameFault) => boolean): number => got.filter(fits).length / 4000
  expect(share(({ isLost }) => isLost === true)).toBeCloseTo(0.1, 1)
  expect(share(({ flippedBit }) => flippedBit !== undefined)).toBeCloseTo(0.2, 1)
  expect(share(({ copies }) => copies === 1)).toBeCloseTo(0.3, 1)
  expect(share(({ delayMs }) => delayMs !== undefined)).toBeCloseTo(0.4, 1)
  expect(share(({ overtakenBy }) => overtakenBy !== undefined)).toBeCloseTo(0.5, 1)
  expect(got.every(({ delayMs = 0, flippedBit = 0 }) => delayMs < 50 && flippedBit < 800)).toBe(
    true,
  )
  // The odds of one fault don't move another.
  const lost = (faults: readonly FrameFault[]): unknown => faults.map(({ isLost }) => isLost)
  expect(lost(faults(42, { delay: 0, corrupt: 1 }))).toEqual(lost(got))
  expect(() => randomFrameFaults({ seed: 0 })).toThrow(RangeError)
  expect(() => randomFrameFaults({ seed: 1, loss: 1.5 })).toThrow(/"loss" expected odds/)
})
