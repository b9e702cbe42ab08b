/**
 * A device that fails or closes soon after each start: the first restarts are immediate, each later
 * one is delayed longer.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { unplugDevice } from '../src/index.ts'
import { Pace } from '../src/pace.ts'
import { connect, rig } from './rig.ts'

describe('the delay', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  /** Returns the delays in ms before the device may be offered again, one per connection. */
  function delays(lives: readonly ('closed' | 'failed')[], lifetime = 0): number[] {
    const pace = new Pace()
    return lives.map((how) => {
      pace.begin()
      vi.advanceTimersByTime(lifetime)
      pace.end(how)
      const ended = performance.now()
      let offered = ended
      if (!pace.mayBegin(() => (offered = performance.now()))) vi.runAllTimers()
      return Math.round(offered - ended)
    })
  }

  test('grows with failures, to ten seconds', () => {
    expect(delays(Array(12).fill('failed'))).toEqual([
      0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000,
    ])
  })

  test('spares a guest that hands its disk on, and a few reboots', () => {
    expect(delays(Array(16).fill('closed'))).toEqual(Array(16).fill(0))
    expect(delays(Array(17).fill('closed')).at(-1)).toBe(100)
  })

  test('is forgotten after a life that lasted', () => {
    expect(delays(Array(20).fill('failed'), 10_000)).toEqual(Array(20).fill(0))
  })

  test('calls nobody when it is stopped', () => {
    const pace = new Pace()
    for (let i = 0; i < 5; i++) pace.end('failed')
    expect(
      pace.mayBegin(() => {
        throw new Error('called')
      }),
    ).toBe(false)
    pace.stop()
    vi.runAllTimers()
  })
})

test('a guest that breaks its device again and again: a few failures a second', async () => {
  await using r = await rig()
  const server = await r.serve()
  await r.plug(0)
  await r.plug(1)
  server.driver.hooks.connect = async ({ devid }) => {
    if (devid === 0) throw new Error('broken')
  }
  const end = performance.now() + 1_000
  let attempts = 0
  const until = async (wanted: string): Promise<boolean> => {
    while ((await r.xs.read(`${r.path('back', 0)}/state`)) !== wanted) {
      if (performance.now() > end) return false
    }
    return true
  }
  await r.guestXs.write(`${r.path('front', 0)}/state`, '1')
  while (await until('2')) {
    attempts++
    await r.guestXs.write(`${r.path('front', 0)}/state`, '3')
    if (!(await until('5'))) break
    await r.guestXs.write(`${r.path('front', 0)}/state`, '6')
    if (!(await until('6'))) break
    await r.guestXs.write(`${r.path('front', 0)}/state`, '1')
  }
  // In one second: two attempts at once, the next ones after 100, 200 and 400 ms.
  expect(attempts).toBeGreaterThan(0)
  expect(attempts).toBeLessThan(7)
  expect(server.events.filter(({ kind }) => kind === 'failed').length).toBeLessThan(7)
  await connect(r, 1)
  for (const devid of [0, 1]) {
    await unplugDevice(r.xs, r.address(devid), { signal: AbortSignal.abort() })
  }
})
