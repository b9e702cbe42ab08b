/**
 * A client runs its transactions one after the other, and holds fewer than a domain may have open.
 */
import { XS, XsParser } from '@xenkit/wire'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { openXenstore, type XenstoreClient } from '../src/index.ts'
import { Store } from './support/store.ts'

let store: Store
let guest: XenstoreClient

beforeEach(async () => {
  store = new Store()
  await store.introduce(5)
  guest = await store.open(5)
})

afterEach(() => {
  expect(store.leftOpen).toEqual([])
  store[Symbol.dispose]()
})

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i)
const openTransactions = (): number =>
  store.leftOpen.filter((line) => / transaction \d+$/.test(line)).length

/** Returns a transaction's body that runs until `end` is called. */
function heldBody() {
  let [start, end] = [() => {}, () => {}]
  const started = new Promise<void>((resolve) => {
    start = resolve
  })
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  return {
    body: async () => {
      start()
      await ended
    },
    started,
    end: () => end(),
  }
}

test('a hundred at once are open one at a time, in the order of the calls', async () => {
  const order: number[] = []
  let most = 0
  await Promise.all(
    numbers(100).map((i) =>
      guest.transaction(async (view) => {
        most = Math.max(most, openTransactions())
        order.push(i)
        await view.write(`data/${i}`, '1')
      }),
    ),
  )
  expect(order).toEqual(numbers(100))
  expect(most).toBe(1)
})

describe('a slow one', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  test('delays the others for a second', async () => {
    const slow = heldBody()
    const first = guest.transaction(slow.body)
    await slow.started
    let others = 0
    const rest = numbers(3).map(() =>
      guest.transaction(async () => {
        others++
      }),
    )
    await guest.getDomainPath(5)
    await vi.advanceTimersByTimeAsync(999)
    await guest.getDomainPath(5)
    expect(others).toBe(0)
    await vi.advanceTimersByTimeAsync(1)
    await Promise.all(rest)
    slow.end()
    await first
    expect(vi.getTimerCount()).toBe(0)
  })

  test('may wait for another transaction of the same client', async () => {
    let value: string | undefined
    const outer = guest.transaction(async () => {
      await guest.transaction((view) => view.write('data/inner', '1'))
      value = await guest.read('data/inner')
    })
    await vi.waitFor(() => expect(openTransactions()).toBe(1))
    await vi.advanceTimersByTimeAsync(1000)
    await outer
    expect(value).toBe('1')
  })

  test("and several slow ones leave some of the domain's transactions to other programs", async () => {
    const held = numbers(12).map(heldBody)
    const all = held.map(({ body }) => guest.transaction(body))
    for (let opened = 1; opened <= 8; opened++) {
      await held[opened - 1]?.started
      expect(openTransactions()).toBe(opened)
      await vi.advanceTimersByTimeAsync(1000)
    }
    await vi.advanceTimersByTimeAsync(60_000)
    expect(openTransactions()).toBe(8)
    held[0]?.end()
    await held[8]?.started
    expect(openTransactions()).toBe(8)
    for (const { end } of held) end()
    await Promise.all(all)
  })

  test('does not keep a waiting one from being aborted', async () => {
    const slow = heldBody()
    const first = guest.transaction(slow.body)
    await slow.started
    const controller = new AbortController()
    const { signal } = controller
    const waiting = guest.transaction(async () => expect.unreachable(), { signal })
    const after = guest.transaction(async () => 'after')
    controller.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    slow.end()
    await first
    expect(await after).toBe('after')
  })
})

describe('a domain whose other programs hold all its transactions', () => {
  /** Transactions that other programs of the domain hold open. */
  let others: { readonly ended: Promise<void>; end(): void }[]
  let refusals: number
  let watched: XenstoreClient

  beforeEach(async () => {
    using dom0 = await store.open(0)
    await dom0.setQuota({ quota: 'transactions', value: 1, domid: 5 }) // a quota of 1 allows two
    others = []
    for (const client of [guest, await store.open(5)]) {
      const { body, started, end } = heldBody()
      others.push({ ended: client.transaction(body), end })
      await started
    }
    refusals = 0
    const port = store.port(5)
    const errors = new XsParser((type) => {
      if (type === XS.ERROR) refusals++
    })
    watched = await openXenstore({
      connect: (receiver) =>
        port.connect({
          data(bytes) {
            errors.push(bytes)
            receiver.data(bytes)
          },
          closed: (reason) => receiver.closed(reason),
        }),
    })
  })

  afterEach(async () => {
    for (const { end } of others) end()
    await Promise.all(others.map(({ ended }) => ended))
    watched.close()
  })

  test('waits until they end', async () => {
    const transaction = watched.transaction(async (view) => view.write('data/x', '1'))
    await vi.waitFor(() => expect(refusals).toBeGreaterThan(1))
    others[0]?.end()
    await transaction
    expect(await guest.read('data/x')).toBe('1')
  })

  test('rejects in the end, and names the quota', async () => {
    const transaction = watched.transaction(async () => expect.unreachable())
    await expect(transaction).rejects.toThrow("ENOSPC (over the domain's quota of transactions)")
    expect(refusals).toBe(40)
  })
})
