/** The rate limit of a card's guest. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { NETIF_RSP, NETTXF } from '@xenkit/wire'
import { Credit } from '../../src/backend/credit.ts'
import { TxRig } from '../support/tx-rig.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** A caller with packets of these sizes, who sends as many as it may each time. */
function sender(credit: Credit, sizes: number[]): { readonly sent: number[]; send(): void } {
  const sent: number[] = []
  const send = (): void => {
    for (let size; (size = sizes[0]) !== undefined && credit.spend(size, send);) {
      sent.push(size)
      sizes.shift()
    }
  }
  return { sent, send }
}

const RATE = { bytes: 1000, periodUs: 50_000 }

test('a period allows its bytes, and the rest waits for the next one', () => {
  using credit = new Credit(RATE)
  const { sent, send } = sender(credit, [600, 400, 300, 300, 600, 100])
  send()
  expect(sent).toEqual([600, 400])
  vi.advanceTimersByTime(49)
  expect(sent).toHaveLength(2)
  vi.advanceTimersByTime(1)
  expect(sent).toEqual([600, 400, 300, 300])
  vi.advanceTimersByTime(50)
  expect(sent).toEqual([600, 400, 300, 300, 600, 100])
  expect(vi.getTimerCount()).toBe(0)
})

test('a packet larger than a period collects credit until it may be sent', () => {
  using credit = new Credit(RATE)
  const { sent, send } = sender(credit, [65_535])
  send()
  vi.advanceTimersByTime(64 * 50)
  expect(sent).toEqual([])
  vi.advanceTimersByTime(50)
  expect(sent).toEqual([65_535])
})

test('over a long time the rate is kept, however late the timers are', () => {
  using credit = new Credit({ bytes: 100, periodUs: 300 })
  const { sent, send } = sender(
    credit,
    Array.from({ length: 5_000 }, () => 50),
  )
  send()
  // A timer takes a millisecond, three periods and a third.
  vi.advanceTimersByTime(300)
  const bytes = sent.length * 50
  expect(bytes).toBeGreaterThanOrEqual(100 + 990 * 100)
  expect(bytes).toBeLessThanOrEqual(100 + 1000 * 100)
})

test('unused credit is kept up to a burst of 128 KiB, or one period', () => {
  for (const [bytes, burst] of [
    [1000, 131_072],
    [300_000, 300_000],
  ] as const) {
    using credit = new Credit({ bytes, periodUs: 1000 })
    credit.spend(bytes, () => {})
    vi.advanceTimersByTime(3_600_000)
    const { sent, send } = sender(
      credit,
      Array.from({ length: 40 }, () => 10_000),
    )
    send()
    expect(sent).toHaveLength(Math.floor(burst / 10_000))
  }
})

test('callers that wait get their turns in order', () => {
  using credit = new Credit(RATE)
  const order: string[] = []
  const caller = (name: string, size: number, count: number): (() => void) => {
    const send = (): void => {
      while (count > 0 && credit.spend(size, send)) {
        order.push(name)
        count--
      }
    }
    return send
  }
  const large = caller('large', 1500, 2)
  const small = caller('small', 100, 12)
  credit.spend(1000, () => {})
  large()
  small()
  vi.advanceTimersByTime(200)
  // The small packets don't use up what the large one collects.
  expect(order.indexOf('large')).toBe(0)
  vi.advanceTimersByTime(2_000)
  expect(order.filter((name) => name === 'large')).toHaveLength(2)
  expect(order.filter((name) => name === 'small')).toHaveLength(12)
  expect(vi.getTimerCount()).toBe(0)
})

test('without a rate there is no limit', () => {
  using credit = new Credit()
  expect(credit.spend(65_535, () => {})).toBe(true)
  expect(credit.spend(65_535, () => {})).toBe(true)
})

test('a new rate counts from now on, for those that wait too', () => {
  using credit = new Credit({ bytes: 0, periodUs: 50_000 })
  const { sent, send } = sender(credit, [500, 500, 500, 500, 500])
  send()
  vi.advanceTimersByTime(10_000)
  expect(sent).toEqual([])
  credit.change(RATE)
  expect(sent).toHaveLength(2)
  vi.advanceTimersByTime(50)
  expect(sent).toHaveLength(4)
  credit.change(undefined)
  expect(sent).toHaveLength(5)
  expect(vi.getTimerCount()).toBe(0)
})

test('a period of years keeps a timer, and a closed limit none', () => {
  const credit = new Credit({ bytes: 10, periodUs: 999_999_999_999_999 })
  let calls = 0
  credit.spend(100, () => void calls++)
  vi.advanceTimersByTime(1_000)
  expect([calls, vi.getTimerCount()]).toEqual([0, 1])
  credit.close()
  expect(vi.getTimerCount()).toBe(0)
})

test("a guest's packets wait for credit by the size that their first slot says", async () => {
  await using rig = await TxRig.open({ rate: { bytes: 200, periodUs: 50_000 } })
  for (let i = 0; i < 5; i++) rig.put({ size: 100, id: i })
  rig.turn()
  expect(rig.answers()).toEqual(['0:0', '1:0'])
  vi.advanceTimersByTime(50)
  expect(rig.answers()).toEqual(['2:0', '3:0'])
  rig.put({ size: 100, id: 5 })
  rig.turn()
  expect(rig.answers()).toEqual([])
  rig.credit.change(undefined)
  expect(rig.answers()).toEqual(['4:0', '5:0'])
  expect(rig.frames).toHaveLength(6)
})

test('packets that wait for credit are sent before a bad slot behind them closes the card', async () => {
  await using rig = await TxRig.open({ rate: { bytes: 60, periodUs: 50_000 } })
  for (let i = 0; i < 2; i++) rig.put({ size: 60, id: i })
  rig.put({ size: 60, flags: NETTXF.more_data })
  rig.put({ offset: 4096, size: 1, flags: NETTXF.more_data })
  rig.turn()
  expect([rig.frames.length, rig.failures.length]).toEqual([1, 0])
  vi.advanceTimersByTime(50)
  expect(rig.frames).toHaveLength(2)
  expect(rig.failures.map(String)).toEqual([
    expect.stringContaining('transmit request 3 in slot 3: "offset" 4096'),
  ])
})

test('a ring that has stopped is forgotten, and others go on', async () => {
  await using rig = await TxRig.open({ rate: { bytes: 100, periodUs: 50_000 } })
  for (let i = 0; i < 2; i++) rig.put({ size: 100, id: i })
  rig.turn()
  await rig.work.server.settle({ frontend: 'gone' })
  const { sent, send } = sender(rig.credit, [60])
  send()
  expect(sent).toEqual([])
  vi.advanceTimersByTime(60)
  expect(sent).toEqual([60])
  expect(rig.frames).toHaveLength(1)
})

test('a guest that closes waits for no credit: what it may not send is dropped', async () => {
  await using rig = await TxRig.open({ rate: { bytes: 200, periodUs: 3_600_000_000 } })
  vi.useRealTimers()
  for (let i = 0; i < 4; i++) rig.put({ size: 100, id: i })
  rig.turn()
  expect(rig.answers()).toEqual(['0:0', '1:0'])
  const before = performance.now()
  await rig.work.server.settle({ frontend: 'closed' })
  expect(performance.now() - before).toBeLessThan(5_000)
  expect(rig.answers()).toEqual([`2:${NETIF_RSP.DROPPED}`, `3:${NETIF_RSP.DROPPED}`])
  expect(rig.frames).toHaveLength(2)
  expect(rig.counters.stats).toMatchObject({ framesSent: 2, sendDrops: 2 })
})
