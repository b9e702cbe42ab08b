/** `throttledStore`: the limits on calls and bytes, with fake timers. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { memoryStore, throttledStore } from '../src/index.ts'
import { expectModelled, zeroed } from './support/model.ts'

test('below its limits it behaves as its base', async () => {
  await expectModelled({
    store: throttledStore(memoryStore(300), { bytes: { perSecond: 1e12 } }),
    discarded: zeroed,
    numRuns: 10,
  })
})

describe('with time', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] }))
  afterEach(() => void vi.useRealTimers())

  /** Starts all the calls together. Returns how many milliseconds each takes to complete. */
  async function times(calls: readonly (() => unknown)[]): Promise<number[]> {
    const from = performance.now()
    const done: Promise<number>[] = calls.map(async (call) => {
      await call()
      return Math.round(performance.now() - from)
    })
    await vi.runAllTimersAsync()
    return Promise.all(done)
  }

  test('calls: a burst at once, the rest at the rate and in order; a pause fills the bucket no further than its burst', async () => {
    const store = throttledStore(memoryStore(64), { calls: { perSecond: 10, burst: 3 } })
    const read = (): unknown => store.read(0, [new Uint8Array(512)])
    expect(await times(Array.from({ length: 6 }, () => read))).toEqual([0, 0, 0, 100, 200, 300])
    await vi.advanceTimersByTimeAsync(3_600_000)
    expect(
      await times([
        read,
        () => store.flush?.(),
        () => store.discard?.(0, 8, { secure: false }),
        read,
        () => store.write?.(0, [new Uint8Array(512)]),
      ]),
    ).toEqual([0, 0, 0, 100, 200])
  })

  test('bytes: reads and writes share them, a call larger than the burst waits for what it lacks; discards and flushes are free', async () => {
    const store = throttledStore(memoryStore(64), { bytes: { perSecond: 8192, burst: 4096 } })
    const calls = [
      () => store.write?.(0, [new Uint8Array(4096)]),
      () => store.read(0, [new Uint8Array(4096)]),
      () => store.read(0, [new Uint8Array(8192)]),
    ]
    expect(await times(calls)).toEqual([0, 500, 1500])
    expect(
      await times([() => store.discard?.(0, 64, { secure: false }), () => store.flush?.()]),
    ).toEqual([0, 0])
  })

  test('both: the scarcer one decides', async () => {
    const store = throttledStore(memoryStore(64), {
      calls: { perSecond: 2, burst: 1 },
      bytes: { perSecond: 512, burst: 512 },
    })
    expect(
      await times([
        () => store.read(0, [new Uint8Array(512)]),
        () => store.read(0, [new Uint8Array(512)]),
        () => store.flush?.(),
      ]),
    ).toEqual([0, 1000, 1000])
  })

  test('an idle disk has no timer', async () => {
    const store = throttledStore(memoryStore(64), { calls: { perSecond: 10, burst: 1 } })
    await times([() => store.flush?.(), () => store.flush?.()])
    expect(vi.getTimerCount()).toBe(0)
  })
})

test('a throttled store has only the members of its base, and grows with it', () => {
  const memory = memoryStore(8)
  const { sectors, read } = memory
  const limits = { calls: { perSecond: 1 } }
  expect(Object.keys(throttledStore({ sectors, read }, limits)).toSorted()).toEqual([
    'read',
    'sectors',
  ])
  const store = throttledStore(memory, limits)
  let told = 0
  using _ = store.onResize?.(() => told++)
  memory.resize(16)
  expect([store.sectors, told]).toEqual([16, 1])
})

test.each([0, -1, NaN, Infinity])('a rate of %s is refused', (value) => {
  expect(() => throttledStore(memoryStore(8), { calls: { perSecond: value } })).toThrow(
    /"calls.perSecond" expected a positive number/,
  )
  expect(() => throttledStore(memoryStore(8), { bytes: { perSecond: 1, burst: value } })).toThrow(
    /"bytes.burst"/,
  )
})
