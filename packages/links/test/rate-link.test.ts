/** `rateLink`: limits, waiting, and order, with fake timers. */
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type RateLimits, openCable, rateLink } from '../src/index.ts'
import { ethernet } from './support/frames.ts'
import { TestCard } from './support/test-card.ts'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

/** A frame of so many bytes. */
const frame = (bytes: number, number = 0): number[] =>
  ethernet({ payload: Array.from({ length: bytes - 14 }, () => number) })

async function limited(limits: RateLimits) {
  const [near, far] = openCable()
  const link = rateLink(near, limits)
  const card = await new TestCard().plugInto(link)
  const peer = await new TestCard().plugInto(far)
  return { link, card, peer }
}

test('frames above the limit wait for their time, in order', async () => {
  const { link, card, peer } = await limited({ fromCard: { bytesPerSecond: 1000, burst: 100 } })
  card.transmit(frame(60, 1), frame(60, 2), frame(60, 3), frame(60, 4))
  expect(peer.take().map((it) => it[14])).toEqual([1, 2])
  vi.advanceTimersByTime(20)
  expect(peer.take()).toEqual([])
  vi.advanceTimersByTime(1)
  card.transmit(frame(60, 5))
  expect(peer.take().map((it) => it[14])).toEqual([3])
  vi.advanceTimersByTime(59)
  expect(peer.take()).toEqual([])
  vi.advanceTimersByTime(1)
  expect(peer.take().map((it) => it[14])).toEqual([4])
  vi.advanceTimersByTime(60)
  expect(peer.take().map((it) => it[14])).toEqual([5])
  expect(link.fromCard).toEqual({ passed: 5, held: 3, dropped: 0 })
  expect(link.toCard).toEqual({ passed: 0, held: 0, dropped: 0 })
})

test('the other direction has a limit of its own', async () => {
  const { link, card, peer } = await limited({
    toCard: { bytesPerSecond: 1000, burst: 100, queueBytes: 0 },
  })
  peer.transmit(...Array.from({ length: 5 }, () => frame(100)))
  card.transmit(...Array.from({ length: 5 }, () => frame(100)))
  expect([card.take().length, peer.take().length]).toEqual([1, 5])
  expect(link.toCard).toEqual({ passed: 1, held: 0, dropped: 4 })
})

test('a frame longer than the burst passes, and the next waits for longer', async () => {
  const { card, peer } = await limited({ fromCard: { bytesPerSecond: 1e6, burst: 1000 } })
  card.transmit(frame(65_000), frame(60))
  expect(peer.take()).toHaveLength(1)
  vi.advanceTimersByTime(64)
  expect(peer.take()).toEqual([])
  vi.advanceTimersByTime(1)
  expect(peer.take()).toHaveLength(1)
})

test('no more passes than the limit and the burst, in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ bytes: fc.integer({ min: 14, max: 300 }), after: fc.nat(3) }), {
        minLength: 100,
        maxLength: 300,
      }),
      async (sends) => {
        const limit = { bytesPerSecond: 50_000, burst: 500, queueBytes: 5000 }
        const { link, card, peer } = await limited({ fromCard: limit })
        const start = performance.now()
        let passed = 0
        let number = 0
        const numbers: number[] = []
        const collect = (): void => {
          for (const it of peer.take()) {
            passed += it.length
            numbers.push(((it[12] ?? 0) << 8) | (it[13] ?? 0))
          }
          const most = 500 + (performance.now() - start) * 50 + 300
          expect(passed).toBeLessThanOrEqual(most)
        }
        for (const { bytes, after } of sends) {
          card.transmit(
            ethernet({ type: number++, payload: Array.from({ length: bytes - 14 }, () => 0) }),
          )
          vi.advanceTimersByTime(after)
          collect()
        }
        vi.advanceTimersByTime(2000)
        collect()
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
        expect(link.fromCard.passed + link.fromCard.dropped).toBe(sends.length)
        expect(numbers).toHaveLength(link.fromCard.passed)
        await card.link.close()
      },
    ),
    { numRuns: 30 },
  )
})

test('a card that always has frames to send gets all of its rate', async () => {
  const { card, peer } = await limited({ fromCard: { bytesPerSecond: 50_000, burst: 500 } })
  for (let i = 0; i < 1000; i++) {
    card.transmit(frame(100))
    vi.advanceTimersByTime(1)
  }
  const passed = 100 * peer.take().length
  expect(passed).toBeGreaterThanOrEqual(50_000 - 100)
  expect(passed).toBeLessThanOrEqual(50_000 + 500 + 100)
  await card.link.close()
})

test('what waits is bounded', async () => {
  const { link, card } = await limited({
    fromCard: { bytesPerSecond: 1, burst: 1, queueBytes: 1000 },
  })
  card.transmit(...Array.from({ length: 50 }, () => frame(100)))
  expect(link.fromCard).toEqual({ passed: 1, held: 7, dropped: 42 })
  await card.link.close()
})

test('a change applies at once, also to what waits', async () => {
  const { link, card, peer } = await limited({ fromCard: { bytesPerSecond: 10, burst: 10 } })
  card.transmit(...Array.from({ length: 10 }, () => frame(100)))
  expect(peer.take()).toHaveLength(1)
  expect(() => link.change({ toCard: { bytesPerSecond: 0 } })).toThrow(/"toCard.bytesPerSecond"/)
  link.change({ fromCard: { bytesPerSecond: 100_000 } })
  vi.advanceTimersByTime(9)
  expect(peer.take()).toHaveLength(9)
  link.change({})
  card.transmit(...Array.from({ length: 1000 }, () => frame(100)))
  expect(peer.take()).toHaveLength(1000)
})

test('frames that are sent while others leave the queue come behind them', async () => {
  const [near, far] = openCable()
  const link = rateLink(near, { fromCard: { bytesPerSecond: 1, burst: 1 } })
  const card = await new TestCard().plugInto(link)
  let isFirst = false
  const numbers: number[] = []
  const peer = new TestCard({
    onFrames: (frames) => {
      for (let i = 0; i < frames.count; i++) numbers.push(frames.bytes(i)[14] ?? 0)
      if (!isFirst) return
      isFirst = false
      card.transmit(frame(60, 255))
      link.change({})
      card.transmit(frame(60, 255))
    },
  })
  await peer.plugInto(far)
  card.transmit(frame(60, 0))
  numbers.length = 0
  // More than there are in a batch.
  card.transmit(...Array.from({ length: 300 }, (_, i) => frame(60, i >> 1)))
  isFirst = true
  link.change({})
  expect(numbers).toEqual([...Array.from({ length: 300 }, (_, i) => i >> 1), 255, 255])
})

test('an unplugged card gets nothing of what waits, and leaves no timer', async () => {
  const { card, peer } = await limited({ toCard: { bytesPerSecond: 1000, burst: 1 } })
  peer.transmit(frame(60), frame(60))
  expect(card.take()).toHaveLength(1)
  expect(vi.getTimerCount()).toBe(1)
  await card.link.close()
  expect(vi.getTimerCount()).toBe(0)
  vi.advanceTimersByTime(1000)
  expect(card.take()).toEqual([])
})

test('an end that answers from within a send keeps its frames in order', async () => {
  const [near, far] = openCable()
  const card = await new TestCard().plugInto(
    rateLink(near, { fromCard: { bytesPerSecond: 1000, burst: 60 } }),
  )
  let more = 3
  const peer = new TestCard({
    onFrames: () => {
      if (more-- > 0) card.transmit(frame(60, 10 + more))
    },
  })
  await peer.plugInto(far)
  card.transmit(frame(60, 1), frame(60, 2))
  vi.advanceTimersByTime(1000)
  // The peer keeps a frame once it has answered it, but the answers wait.
  expect(peer.take().map((it) => it[14])).toEqual([1, 2, 12, 11, 10])
})
