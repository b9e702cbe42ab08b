/** When a ring is looked at instead of slept on: by a clock that the test turns. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { AdaptivePoll } from '../src/backend/adaptive-poll.ts'

let now = 0
beforeEach(() => void vi.spyOn(performance, 'now').mockImplementation(() => now))
afterEach(() => vi.restoreAllMocks())

/** A ring on which requests appear at a time; each look takes 20 ns. */
function ring(at = Infinity) {
  const looks = { count: 0, drain: () => (looks.count++, (now += 0.000_02), now >= at ? 3 : 0) }
  return looks
}

/** A poll of a ring whose last requests came so soon that looking pays. */
function quick(): AdaptivePoll {
  const poll = new AdaptivePoll()
  poll.woken()
  poll.run(ring().drain)
  now += 0.05
  poll.woken()
  return poll
}

test('nobody looks before requests have come soon after one another', () => {
  const poll = new AdaptivePoll()
  for (const gap of [0, 0.3, 5]) {
    now += gap
    poll.woken()
    const { count, drain } = ring()
    expect([poll.run(drain), count]).toEqual([0, 0])
  }
})

test('then what comes within 50 us is found without an event', () => {
  const poll = quick()
  for (let i = 0; i < 5; i++) expect(poll.run(ring(now + 0.04).drain)).toBe(3)
})

test('a look that finds nothing ends, and is the last one until requests come soon again', () => {
  const poll = quick()
  const first = ring()
  const begun = now
  expect(poll.run(first.drain)).toBe(0)
  expect(now - begun).toBeLessThan(0.1)
  expect(first.count).toBeGreaterThan(2_000)
  now += 1
  poll.woken()
  const second = ring()
  expect([poll.run(second.drain), second.count]).toEqual([0, 0])
  now += 0.05
  poll.woken()
  expect(poll.run(ring(now).drain)).toBe(3)
})

test('nobody looks while another ring of the thread has events', () => {
  const poll = quick()
  const other = new AdaptivePoll()
  other.woken()
  const looks = ring(now)
  expect([poll.run(looks.drain), looks.count]).toEqual([0, 0])
  poll.woken()
  expect(poll.run(ring(now).drain)).toBe(3)
})
