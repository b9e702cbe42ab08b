import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { rate } from '../src/rate.ts'

test('keeps one operation in flight per lane, and returns operations per second', async () => {
  const inFlight = new Set<number>()
  let most = 0
  let done = 0
  const begin = performance.now()
  const perSecond = await rate({ depth: 3, seconds: 0.1 }, async (lane) => {
    expect(inFlight.has(lane)).toBe(false)
    inFlight.add(lane)
    most = Math.max(most, inFlight.size)
    await sleep(1)
    inFlight.delete(lane)
    done++
  })
  const seconds = (performance.now() - begin) / 1000
  expect(most).toBe(3)
  expect(seconds).toBeGreaterThanOrEqual(0.1)
  // `rate` measures a shorter interval than this test does
  expect(perSecond).toBeGreaterThanOrEqual(done / seconds)
  expect(perSecond).toBeLessThanOrEqual(done / 0.1)
})
