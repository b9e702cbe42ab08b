/** Frames that wait for a guest: buffers, turns, limits and time. */
import { openGuestTurn, TURN } from '@xenkit/backend'
import { Frames } from '@xenkit/frames'
import { RingProtocolError } from '@xenkit/hypervisor'
import { afterEach, expect, test, vi } from 'vitest'
import { until } from '../../../backend/test/support/until.ts'
import { RxQueue } from '../../src/backend/rx-queue.ts'
import type { FrontendFeatures } from '../../src/nodes.ts'
import { content, rxRig, type RxRig, sameBytes } from '../support/rx-rig.ts'

afterEach(() => vi.useRealTimers())

const fakeTime = (): void =>
  void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })

const nextRound = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

const frame = (seed: number): Uint8Array => content(100, seed)

/** Takes packets until there are so many. */
async function receive(r: RxRig, count: number): Promise<(Uint8Array | undefined)[]> {
  const got = r.front.reap()
  await until(() => got.push(...r.front.reap()) >= count)
  return got.map(({ bytes }) => bytes)
}

test('frames wait for buffers, and the guest is asked for an event with the next one', async () => {
  await using r = await rxRig()
  r.post(3)
  await nextRound()
  r.server.send(r.batch([1, 2, 3, 4].map(frame)))
  r.server.send(r.batch([content(5000, 5)]))
  expect(await receive(r, 3)).toEqual([1, 2, 3].map(frame))
  r.post(1)
  expect(await receive(r, 1)).toEqual([frame(4)])
  // Too few for the next frame: the guest has to be asked again.
  r.post(1)
  await nextRound()
  expect(r.front.reap()).toEqual([])
  r.post(1)
  expect(await receive(r, 1)).toEqual([content(5000, 5)])
  expect(r.counters.stats).toMatchObject({ framesReceived: 5, receiveDrops: 0 })
})

test('an idle guest that posts buffers is not asked for events', async () => {
  await using r = await rxRig()
  r.post(2)
  await nextRound()
  r.server.send(r.batch([frame(1)]))
  expect(r.front.post(1)).toBe(false)
})

test('frames outside of the arena are copied into it, in one grant-copy call', async () => {
  await using r = await rxRig()
  const copyOut = vi.spyOn(r.copier, 'copyOut')
  r.front.post(40)
  const frames = new Frames(3)
  const sent = [content(14, 1), content(65_535, 2), content(1514, 3)]
  frames.reset(Uint8Array.from(Buffer.concat(sent)))
  for (const [i, start] of [0, 14, 65_549].entries()) {
    frames.add({ start, length: sent[i]?.length ?? 0 })
  }
  r.server.send(frames)
  const received = r.front.reap().map(({ bytes }) => bytes)
  expect(sameBytes(received, sent)).toBe(true)
  expect(copyOut).toHaveBeenCalledTimes(1)
})

test('a guest whose turn is used up goes on in the next round, in order', async () => {
  await using r = await rxRig()
  using other = openOther(r)
  r.front.post(200)
  r.server.send(r.batch(Array.from({ length: 180 }, (_, i) => frame(i))))
  // A frame of one buffer costs 2 units of work.
  const now = Math.floor(TURN / 2)
  expect(r.front.reap()).toHaveLength(now)
  r.server.send(r.batch([frame(180)]))
  expect(r.front.reap()).toHaveLength(0)
  const rest = await receive(r, 181 - now)
  expect(rest).toEqual(Array.from({ length: 181 - now }, (_, i) => frame(now + i)))
  void other
})

const openOther = (r: RxRig): Disposable => {
  const turn = openGuestTurn(r.dom0.loop, 77)
  return { [Symbol.dispose]: () => turn.close() }
}

test.each([
  ['long', 1500],
  ['short', 14],
  ['so long that two fill a chunk', 32_768],
  ['so long that they fill more than half a chunk', 40_000],
])('a ring that is never refilled takes 1 MiB at most: %s frames', async (_, length) => {
  await using r = await rxRig()
  const frames = 20_480
  const batch = r.batch(Array.from({ length: 20 }, (_, i) => content(length, i)))
  for (let i = 0; i < frames; i += 20) r.server.send(batch)
  expect(r.pool.pages).toBeLessThanOrEqual(256)
  expect(r.calls).toEqual(['pause'])
  const { receiveDrops } = r.counters.stats
  const waiting = frames - receiveDrops
  expect(waiting * length).toBeGreaterThan(length === 14 ? 2 ** 17 : 2 ** 19)
  // All that was kept arrives in order.
  const sent = Array.from({ length: 20 }, (_, i) => content(length, i))
  let arrived = 0
  while (arrived < waiting) {
    r.post(256 - r.front.posted)
    const packets = r.front.reap()
    await until(() => packets.push(...r.front.reap()) > 0)
    const got = packets.map(({ bytes }) => bytes)
    const expected = packets.map((_, i) => sent[(arrived + i) % 20] ?? content(0))
    expect(sameBytes(got, expected)).toBe(true)
    arrived += packets.length
  }
  expect(r.calls).toEqual(['pause', 'resume'])
  expect(r.counters.stats).toMatchObject({ framesReceived: waiting, receiveDrops })
})

test.each([
  ['for a second chunk', 31, 1],
  ['at all', 8, 0],
])('frames are dropped if the arena has no memory %s', async (_, pages, waiting) => {
  // The source of the frames takes 256 pages, the ring 1.
  await using r = await rxRig({ arena: { pages: 257 + pages } })
  const long = r.batch([content(65_535)])
  for (let i = 0; i < 100; i++) r.server.send(long)
  expect(r.counters.stats).toMatchObject({ receiveDrops: 100 - waiting })
  r.post(17)
  const sent = [content(65_535)].slice(0, waiting)
  expect(sameBytes(await receive(r, waiting), sent)).toBe(true)
  r.server.send(r.batch([frame(1)]))
  expect(await receive(r, 1)).toEqual([frame(1)])
  expect(r.calls).toEqual([])
})

test.each([
  [{ rxNotify: true }, 10_000],
  [{ rxNotify: false }, 30],
])('a guest with %o gets frames that have waited for up to %i ms', async (features, ms) => {
  fakeTime()
  await using r = await rxRig({ features })
  r.server.send(r.batch([frame(1), frame(2)]))
  vi.advanceTimersByTime(ms / 2)
  r.server.send(r.batch([frame(3)]))
  vi.advanceTimersByTime(ms / 2 - 1)
  expect(r.counters.stats.receiveDrops).toBe(0)
  vi.advanceTimersByTime(1)
  expect(r.counters.stats.receiveDrops).toBe(2)
  // Without an event: the guest may not send one.
  r.front.post(3)
  vi.advanceTimersByTime(ms / 2)
  expect(r.front.reap().map(({ bytes }) => bytes)).toEqual([frame(3)])
  expect(r.counters.stats).toMatchObject({ framesReceived: 1, receiveDrops: 2 })
  // The pool of buffers has a timer too.
  vi.advanceTimersByTime(10_000 + ms)
  expect(vi.getTimerCount()).toBe(0)
})

test('a queue is stalled after a minute without buffers, and ready when it has one', async () => {
  fakeTime()
  await using r = await rxRig()
  for (let s = 0; s < 60; s += 5) {
    r.server.send(r.batch([frame(s)]))
    vi.advanceTimersByTime(4_999)
    expect(r.calls).toEqual([])
    vi.advanceTimersByTime(1)
  }
  expect(r.calls).toEqual(['stalled'])
  const { receiveDrops } = r.counters.stats
  r.server.send(r.batch([frame(60), frame(61)]))
  expect(r.counters.stats.receiveDrops).toBe(receiveDrops + 2)
  vi.advanceTimersByTime(60_000)
  expect(r.calls).toEqual(['stalled'])
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
  r.post(2)
  await until(() => r.calls.length > 1)
  expect(r.calls).toEqual(['stalled', 'ready'])
  r.server.send(r.batch([frame(62)]))
  expect(await receive(r, 1)).toEqual([frame(62)])
})

test.each<[string, Partial<FrontendFeatures>, number, number]>([
  ['whose frames come one at a time, and expire', {}, 15, 0],
  ['with a buffer, which is too few', {}, 5, 1],
  ['that does not notify of buffers', { rxNotify: false }, 5, 0],
])('a queue is not stalled: one %s', async (_, features, seconds, posted) => {
  fakeTime()
  await using r = await rxRig({ features })
  r.front.post(posted)
  for (let s = 0; s < 200; s += seconds) {
    r.server.send(r.batch([content(5000, s)]))
    vi.advanceTimersByTime(1000 * seconds)
  }
  expect(r.calls).toEqual([])
})

test('buffers that come one at a time keep a queue from being stalled', async () => {
  fakeTime()
  await using r = await rxRig()
  for (let s = 0; s < 200; s += 1) {
    r.server.send(r.batch([frame(s), frame(s)]))
    if (s % 50 === 49) r.front.post(1)
    vi.advanceTimersByTime(1000)
  }
  expect(r.calls).toEqual([])
})

test.each([
  ['too many requests', 257],
  ['fewer requests than before', -1],
])('a ring with %s stops, and nothing is delivered or thrown any more', async (_, requests) => {
  await using r = await rxRig()
  r.front.post(1)
  r.server.send(r.batch([frame(1), frame(2)]))
  expect(r.front.reap()).toHaveLength(1)
  Atomics.store(r.front.words, 0, 1 + requests)
  r.server.send(r.batch([frame(3)]))
  expect(r.calls).toEqual([expect.any(RingProtocolError)])
  Atomics.store(r.front.words, 0, 2)
  r.server.send(r.batch([frame(4)]))
  r.server.turn()
  expect(r.front.reap()).toEqual([])
  expect(r.counters.stats).toMatchObject({ framesReceived: 1, receiveDrops: 2 })
  expect(r.calls).toHaveLength(1)
})

test('a copy call that is refused stops the ring, and publishes nothing', async () => {
  await using r = await rxRig()
  r.front.post(2)
  const fault = new Error('a fault of the hypervisor')
  vi.spyOn(r.copier, 'copyOut').mockImplementation(() => {
    throw fault
  })
  r.server.send(r.batch([frame(1)]))
  expect(r.calls).toEqual([fault])
  expect(r.front.reap()).toEqual([])
})

test('a server that settles drops what waits, and lets the link go on', async () => {
  fakeTime()
  await using r = await rxRig()
  for (let i = 0; i < 20; i++) r.server.send(r.batch([content(65_535, i)]))
  expect(r.calls).toEqual(['pause'])
  await r.server.settle()
  expect(r.calls).toEqual(['pause', 'resume'])
  r.front.post(200)
  r.server.send(r.batch([frame(1)]))
  r.server.turn()
  expect(r.counters.stats).toMatchObject({ framesReceived: 0, receiveDrops: 21 })
  // The pool of buffers has a timer too.
  vi.advanceTimersByTime(2_000)
  expect(vi.getTimerCount()).toBe(0)
})

test('a planned turn after the ring has stopped does nothing', async () => {
  await using r = await rxRig()
  using other = openOther(r)
  r.front.post(200)
  r.server.send(r.batch(Array.from({ length: 180 }, (_, i) => frame(i))))
  r.server.abandon()
  const delivered = r.front.reap().length
  await nextRound()
  await nextRound()
  expect(r.front.reap()).toEqual([])
  expect(r.counters.stats).toMatchObject({
    framesReceived: delivered,
    receiveDrops: 180 - delivered,
  })
  void other
})

test('a link may send within `pause`, and its frames arrive in order', async () => {
  const sent: Uint8Array[] = []
  await using r: RxRig = await rxRig({
    onPause() {
      sent.push(frame(sent.length))
      r.server.send(r.batch(sent.slice(-1)))
    },
  })
  for (let i = 0; i < 10; i++) {
    sent.push(content(65_535, i))
    r.server.send(r.batch(sent.slice(-1)))
  }
  expect(r.calls).toEqual(['pause'])
  r.post(256)
  expect(sameBytes(await receive(r, sent.length), sent)).toBe(true)
  expect(r.calls).toEqual(['pause', 'resume'])
  expect(sent).toHaveLength(12)
})

test('a link is asked to go on after its call of `send`', async () => {
  await using r = await rxRig()
  const long = r.batch([content(65_535)])
  for (let i = 0; i < 10; i++) r.server.send(long)
  r.front.post(255)
  r.server.send(r.batch([frame(1)]))
  expect(r.calls).toEqual(['pause'])
  await Promise.resolve()
  expect(r.calls).toEqual(['pause', 'resume'])
})

test.each([
  ['a batch that fills the queue', (r: RxRig) => r.server.send(r.batch([content(65_535)]))],
  ['the end of the service', (r: RxRig) => r.server.abandon()],
])('a `pause` that throws at %s fails the device, and nothing is thrown', async (_, step) => {
  const fault = new Error('a fault of the link')
  let faulty = false
  await using r = await rxRig({
    onPause() {
      if (faulty) throw fault
    },
  })
  for (let i = 0; i < 8; i++) r.server.send(r.batch([content(65_535)]))
  const paused = step.toString().includes('abandon')
  if (paused) r.server.send(r.batch([content(65_535)]))
  faulty = true
  step(r)
  expect(r.calls.filter((call) => typeof call !== 'string')).toContain(fault)
})

test('a queue keeps its columns until it is trimmed', async () => {
  await using r = await rxRig()
  const queue = new RxQueue({ pool: r.pool, memory: new Uint8Array(r.dom0.arena.buffer) })
  const frames = r.batch([frame(1)])
  const chunk = (): unknown => {
    expect(queue.add(frames, 0, 0)).toBe(true)
    const { oldest } = queue
    expect(queue.clear()).toBe(1)
    return oldest
  }
  const first = chunk()
  // Not by `toBe`, which compares the arena byte by byte.
  expect(chunk() === first).toBe(true)
  queue.trim()
  expect(chunk() === first).toBe(false)
})
