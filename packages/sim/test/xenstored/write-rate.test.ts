/** A guest that writes without pause must not keep other domains' transactions from committing. */
import { XS } from '@xenkit/wire'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Xenstored } from '../../src/xenstored/index.ts'
import { RawXenstore, startXenstored, until } from '../support/raw-xenstore.ts'

let xenstored: Xenstored
let log: string[]
let dom0: RawXenstore
let dom5: RawXenstore

/**
 * Milliseconds of waiting per write: while only domains 0 and 5 exist, each earns 100 writes a
 * second.
 */
const MS_PER_WRITE = 10
const BURST = 10

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  log = []
  ;({ xenstored, dom0, dom5 } = await startXenstored({ log: (line) => log.push(line) }))
})
afterEach(() => {
  vi.useRealTimers()
})

/**
 * Sends `count` requests at once.
 * @returns an object in which `answered` counts the replies
 */
function send(count: number, ask: (i: number) => Promise<string>): { readonly answered: number } {
  const sent = { answered: 0 }
  for (let i = 0; i < count; i++) void ask(i).then(() => sent.answered++)
  return sent
}
const rewrite = (): Promise<string> => dom5.write('x', '1')
/** Waits until xenstored has done everything except what waits for the (faked) clock. */
const settled = async (): Promise<void> => void (await dom0.events(), await dom0.events())

test('a guest that rewrites a node can not starve a transaction of domain 0', async () => {
  let isOver = false
  const again = (): void => {
    if (!isOver) void rewrite().then(again)
  }
  again()
  let attempts = 0
  let verdict: string
  do {
    const tx = await dom0.begin()
    await dom0.read('/local/domain/5/x', tx)
    for (let i = 0; i < 5; i++) await dom0.write('/y', String(i), tx)
    verdict = await dom0.end(tx)
  } while (verdict === 'EAGAIN' && ++attempts < 100)
  isOver = true
  expect(verdict).toBe('OK|')
  expect(attempts).toBeGreaterThan(0)
  expect(attempts).toBeLessThan(2 * BURST)
})

test('while a transaction is open, a burst is free and the rest waits for credit', async () => {
  await dom5.mkdir('x')
  const tx = await dom0.begin()
  const writes = send(30, rewrite)
  await settled()
  expect(writes.answered).toBe(BURST + 1) // the write that uses up the credit is still answered
  const message = 'domain 5 writes too fast while transactions are open, and has to wait'
  expect(log).toEqual([message])
  for (let more = 1; more < 5; more++) {
    await vi.advanceTimersByTimeAsync(MS_PER_WRITE - 1)
    await settled()
    expect(writes.answered).toBe(BURST + more)
    await vi.advanceTimersByTimeAsync(1)
    await settled()
    expect(writes.answered).toBe(BURST + 1 + more)
  }
  await dom0.end(tx)
  await vi.advanceTimersByTimeAsync(MS_PER_WRITE)
  await settled()
  expect(writes.answered).toBe(30) // no transaction is open, so no write waits
  expect(log).toEqual([message])
})

test('a guest in debt waits with all requests on all connections; others do not', async () => {
  const other = new RawXenstore(xenstored, 5)
  xenstored.introduceDomain(6)
  const dom6 = new RawXenstore(xenstored, 6)
  await dom5.mkdir('x')
  await dom0.begin()
  send(BURST + 1, rewrite)
  await settled()
  const reads = send(1, () => other.read('x'))
  expect(await dom6.ask(XS.GET_DOMAIN_PATH, '6|')).toBe('/local/domain/6|')
  await settled()
  expect(reads.answered).toBe(0)
  await vi.advanceTimersByTimeAsync(MS_PER_WRITE * 2) // with 3 domains, a write takes twice as long
  await settled()
  expect(reads.answered).toBe(1)
})

test.each([
  ['a write of a node that is there', 1, () => rewrite()],
  ['a node with two missing parents', 4, (i: number) => dom5.mkdir(`${i}/a/b`)],
  ['permissions', 1, () => dom5.setPerms('x', 'n5')],
  ['a read', 0, () => dom5.read('x')],
  ['a write that is refused', 0, () => dom5.write('/nobody', '')],
])('%s costs %d', async (_what, cost, ask) => {
  await dom5.mkdir('x')
  await dom0.begin()
  const asked = send(60, ask)
  await settled()
  expect(asked.answered).toBe(cost === 0 ? 60 : Math.floor(BURST / cost) + 1)
})

test('a commit costs one write while another transaction is open', async () => {
  const commit = async (): Promise<string> => {
    const tx = await dom5.begin()
    for (let i = 0; i < 5; i++) await dom5.write(`in-tx/${i}`, '', tx)
    return dom5.end(tx)
  }
  for (let i = 0; i < 100; i++) expect(await commit()).toBe('OK|') // none but its own is open
  await dom0.begin()
  for (let i = 0; i <= BURST; i++) expect(await commit()).toBe('OK|')
  expect(send(1, () => dom5.read('x')).answered).toBe(0)
  expect(log.length).toBe(1)
})

test('nothing is limited without an open transaction, and domain 0 never is', async () => {
  const writes = send(2000, rewrite)
  await settled()
  expect(writes.answered).toBe(2000)
  await dom0.begin()
  const own = send(2000, () => dom0.write('/local/domain/5/x', '2'))
  await settled()
  expect(own.answered).toBe(2000)
})

test('unused credit goes to a reserve of 1000', async () => {
  await vi.advanceTimersByTimeAsync(3_600_000)
  await dom5.mkdir('x')
  await dom0.begin()
  const writes = send(2000, rewrite)
  await until(() => log.length > 0)
  expect(writes.answered).toBe(1000 + BURST + 1)
})

test('a guest that is released while it waits has no timer left', async () => {
  await dom0.begin()
  const writes = send(50, rewrite)
  await settled()
  expect(vi.getTimerCount()).toBe(1)
  xenstored.releaseDomain(5)
  expect(vi.getTimerCount()).toBe(0)
  await settled()
  expect(writes.answered).toBeLessThan(50)
})
