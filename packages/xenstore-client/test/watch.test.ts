import { XS } from '@xenkit/wire'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openXenstore, type XenstoreClient } from '../src/index.ts'
import { ScriptedXenstored } from './support/scripted.ts'
import { Store } from './support/store.ts'

let store: Store
let dom0: XenstoreClient
let other: XenstoreClient

beforeEach(async () => {
  store = new Store()
  dom0 = await store.open(0)
  other = await store.open(0)
})

afterEach(() => store[Symbol.dispose]())

const values = async (
  watch: AsyncIterator<string, undefined>,
  count: number,
): Promise<(string | undefined)[]> => {
  const seen = []
  for (let i = 0; i < count; i++) seen.push((await watch.next()).value)
  return seen
}

async function throwAtFirst(): Promise<void> {
  for await (const path of dom0.watch('/a')) throw new Error(path)
}

test('yields its path at first, then what changed', async () => {
  const watch = dom0.watch('/a')
  expect(await values(watch, 1)).toEqual(['/a'])
  await other.write('/a/b', '1')
  await other.rm('/a')
  expect(await values(watch, 2)).toEqual(['/a/b', '/a'])
})

test('is set by the first next, and removed when the loop is left', async () => {
  const watch = dom0.watch('/a')
  await dom0.exists('/a')
  expect(store.leftOpen).toEqual([])
  for await (const path of watch) {
    expect(path).toBe('/a')
    expect(store.leftOpen.length).toBe(1)
    break
  }
  expect(store.leftOpen).toEqual([])
})

test('is removed when the loop is left by an error', async () => {
  await expect(throwAtFirst()).rejects.toThrow('/a')
  expect(store.leftOpen).toEqual([])
})

test('ends without an error when its signal aborts, whether or not it waits', async () => {
  const controller = new AbortController()
  const seen: string[] = []
  const loop = (async () => {
    for await (const path of dom0.watch('/a', { signal: controller.signal })) seen.push(path)
  })()
  await other.write('/a', '1')
  await dom0.exists('/a')
  await dom0.exists('/a')
  controller.abort()
  await loop
  expect(seen[0]).toBe('/a')
  expect(store.leftOpen).toEqual([])
  expect(await dom0.watch('/a', { signal: controller.signal }).next()).toEqual({
    done: true,
    value: undefined,
  })
  expect(store.leftOpen).toEqual([])
})

test('ends at once when aborted while it is being set', async () => {
  const controller = new AbortController()
  const watch = dom0.watch('/a', { signal: controller.signal })
  const next = watch.next()
  controller.abort()
  expect((await next).done).toBe(true)
  expect(store.leftOpen).toEqual([])
})

test('return ends a next that waits', async () => {
  const watch = dom0.watch('/a')
  await watch.next()
  const waiting = [watch.next(), watch.next()]
  await watch.return?.()
  expect(await Promise.all(waiting)).toEqual([
    { done: true, value: undefined },
    { done: true, value: undefined },
  ])
  expect(store.leftOpen).toEqual([])
})

test('each path is reported once however often it changed', async () => {
  const watch = dom0.watch('/a')
  await watch.next()
  for (let i = 0; i < 100; i++) await other.write(`/a/${i % 2}`, String(i))
  await dom0.exists('/a')
  expect(await values(watch, 2)).toEqual(['/a/0', '/a/1'])
  const [next] = [watch.next()]
  await other.write('/a/last', '1')
  expect((await next).value).toBe('/a/last')
})

test('too many paths are replaced by the watched one', async () => {
  const watch = dom0.watch('/a')
  await watch.next()
  await Promise.all(Array.from({ length: 3000 }, (_, i) => other.write(`/a/${i}`, '')))
  await dom0.exists('/a')
  const seen = new Set<string | undefined>()
  while (!seen.has('/a/2999')) seen.add((await watch.next()).value)
  expect(seen.has('/a')).toBe(true)
  expect(seen.size).toBeLessThanOrEqual(1025)
})

test('two watches on one path are independent', async () => {
  const [one, two] = [dom0.watch('/a'), dom0.watch('/a')]
  expect(await Promise.all([values(one, 1), values(two, 1)])).toEqual([['/a'], ['/a']])
  await one.return?.()
  await other.write('/a/x', '1')
  expect(await values(two, 1)).toEqual(['/a/x'])
})

test('special watches', async () => {
  const watch = dom0.watch('@releaseDomain')
  await watch.next()
  await store.introduce(9)
  store.xenstored.releaseDomain(9)
  expect(await values(watch, 1)).toEqual(['@releaseDomain'])
})

test('paths that can not be watched are refused', async () => {
  await expect(dom0.watch('/a/').next()).rejects.toBeInstanceOf(RangeError)
  await store.introduce(5)
  const guest = await store.open(5)
  // The quota is 128 watches; Xen 4.17 allows one more.
  const watches = Array.from({ length: 129 }, () => guest.watch('x'))
  await Promise.all(watches.map((watch) => watch.next()))
  const oneMore = guest.watch('x')
  await expect(oneMore.next()).rejects.toMatchObject({ errno: 'E2BIG' })
  expect(await oneMore.next()).toEqual({ done: true, value: undefined })
})

test('events of a removed watch are ignored', async () => {
  const xenstored = new ScriptedXenstored()
  const client = await openXenstore(xenstored)
  xenstored.send(XS.WATCH_EVENT, 0, '/a|77|')
  xenstored.send(XS.WATCH_EVENT, 0, '')
  const read = client.read('/a')
  await Promise.resolve()
  xenstored.send(XS.READ, xenstored.sent[0]?.reqId ?? 0, 'x')
  expect(await read).toBe('x')
})

test('events of watches of an earlier client are ignored', async () => {
  const xenstored = new ScriptedXenstored()
  const tokenOf = (request: number): string => xenstored.sent[request]?.payload.split('|')[1] ?? ''
  const earlier = await openXenstore(xenstored)
  void earlier.watch('/earlier').next()
  await Promise.resolve()
  earlier.close()
  const client = await openXenstore(xenstored)
  const first = client.watch('/a').next()
  await Promise.resolve()
  xenstored.send(XS.WATCH, xenstored.sent[1]?.reqId ?? 0, 'OK|')
  xenstored.send(XS.WATCH_EVENT, 0, `/earlier|${tokenOf(0)}|`)
  xenstored.send(XS.WATCH_EVENT, 0, `/a|${tokenOf(1)}|`)
  expect((await first).value).toBe('/a')
  client.close()
})
