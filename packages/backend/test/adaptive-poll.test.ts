/** When a ring is polled instead of slept on, by a clock that the test sets. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { AdaptivePoll } from '@xenkit/backend'
import { EventLoop } from '@xenkit/hypervisor'

let now = 0
let loop = new EventLoop()
beforeEach(() => void (loop = new EventLoop()))
beforeEach(() => void vi.spyOn(performance, 'now').mockImplementation(() => now))
afterEach(() => vi.restoreAllMocks())

/** A ring whose requests appear at the time `at`. Each look takes 20 ns. */
function ring(at = Infinity) {
  const looks = { count: 0, drain: () => (looks.count++, (now += 0.000_02), now >= at ? 3 : 0) }
  return looks
}

/** A poll of a ring whose last requests came so soon that polling pays. */
function quick(): AdaptivePoll {
  const poll = new AdaptivePoll(loop)
  poll.woken()
  poll.run(ring().drain)
  now += 0.05
  poll.woken()
  return poll
}

test('a ring is not polled before requests have come soon after one another', () => {
  const poll = new AdaptivePoll(loop)
  for (const gap of [0, 0.3, 5]) {
    now += gap
    poll.woken()
    const { count, drain } = ring()
    expect([poll.run(drain), count]).toEqual([0, 0])
  }
})

test('then a request that comes within 50 us is found without an event', () => {
  const poll = quick()
  for (let i = 0; i < 5; i++) expect(poll.run(ring(now + 0.04).drain)).toBe(3)
})

test('a poll that finds nothing ends', () => {
  const poll = quick()
  const begun = now
  expect(poll.run(ring().drain)).toBe(0)
  expect(now - begun).toBeGreaterThan(0.05)
  expect(now - begun).toBeLessThan(0.1)
})

/**
 * Sends events that come soon after one another. @returns the numbers of those after which a poll
 * found nothing
 */
function uselessLooks(poll: AdaptivePoll, events: number): number[] {
  const looks: number[] = []
  for (let event = 0; event < events; event++) {
    const fruitless = ring()
    expect(poll.run(fruitless.drain)).toBe(0)
    if (fruitless.count > 0) looks.push(event)
    now += 0.05
    poll.woken()
  }
  return looks
}

test('polls that find nothing become rare', () => {
  expect(uselessLooks(quick(), 5_000)).toEqual([
    0, 2, 6, 14, 30, 62, 126, 254, 510, 1_022, 2_046, 3_070, 4_094,
  ])
})

test('a poll that finds something makes polls frequent again', () => {
  const poll = quick()
  // The next poll comes at event 14.
  expect(uselessLooks(poll, 14)).toEqual([0, 2, 6])
  expect(poll.run(ring(now).drain)).toBe(3)
  expect(uselessLooks(poll, 7)).toEqual([0, 2, 6])
})

test('a ring is not polled while requests come late', () => {
  const poll = quick()
  poll.run(ring().drain)
  for (let event = 0; event < 5; event++) {
    now += 1
    poll.woken()
    const looks = ring()
    expect([poll.run(looks.drain), looks.count]).toEqual([0, 0])
  }
})

test('a ring is not polled while another ring of the event loop has events', () => {
  const poll = quick()
  const other = new AdaptivePoll(loop)
  other.woken()
  const looks = ring(now)
  expect([poll.run(looks.drain), looks.count]).toEqual([0, 0])
  poll.woken()
  expect(poll.run(ring(now).drain)).toBe(3)
})
