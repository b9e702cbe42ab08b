import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { rate } from '../src/rate.ts'

test('keeps that many operations under way, each lane one at a time, and counts what was done per second', async () => {
  const underWay = new Set<number>()
  let most = 0
  let done = 0
  const begin = performance.now()
  const perSecond = await rate({ depth: 3, seconds: 0.1 }, async (lane) => {
    expect(underWay.has(lane)).toBe(false)
    underWay.add(lane)
    most = Math.max(most, underWay.size)
    await sleep(1)
    underWay.delete(lane)
    done++
  })
  const seconds = (performance.now() - begin) / 1000
  expect(most).toBe(3)
  expect(seconds).toBeGreaterThanOrEqual(0.1)
  expect(perSecond).toBeGreaterThanOrEqual(done / seconds) // its clock ran within ours
  expect(perSecond).toBeLessThanOrEqual(done / 0.1)
})
