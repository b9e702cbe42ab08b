/** Both ends of a xenstore ring: data, notifications and limits. */
import { XENSTORE_SERVER_FEATURE } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { serveXenstoreRing, connectXenstoreRing } from '@xenkit/xenstore-ring'
import {
  bytesOf,
  FakeReceiver,
  long,
  Port,
  RING_FEATURES,
  served,
  settle,
  setWord,
  text,
  turnOfLoop,
  unserved,
  word,
  xenstorePage,
} from './support/xenstore-page.ts'

const { ERROR, WATCHDEPTH } = XENSTORE_SERVER_FEATURE

describe('a connection', () => {
  test('carries bytes both ways, more than the ring holds', async () => {
    const s = served()
    const { stream, receiver } = s.connect()
    stream.write(long(5000))
    await s.settle()
    expect(s.store.last.received).toEqual([...long(5000)])
    s.store.last.send(long(7000, 9))
    await s.settle()
    expect(receiver.received).toEqual([...long(7000, 9)])
    expect(s.store.connections.length).toBe(1)
  })

  test('copies the bytes before it returns', async () => {
    const s = served()
    const { stream, receiver } = s.connect()
    const reused = bytesOf('one')
    stream.write(reused)
    reused.set(bytesOf('two'))
    stream.write(reused)
    reused.fill(0)
    await s.settle()
    expect(text(s.store.last.received)).toBe('onetwo')
    const lent = long(2000)
    s.store.last.send(lent)
    lent.fill(0)
    await s.settle()
    expect(receiver.received).toEqual([...long(2000)])
  })

  test('opens a connection to the store with its first bytes, not before', async () => {
    const s = served()
    const { stream } = s.connect()
    await s.settle()
    expect(s.store.connections).toEqual([])
    stream.write(bytesOf('x'))
    await s.settle()
    expect(s.store.connections.length).toBe(1)
  })

  test('sends and delivers nothing once closed', async () => {
    const s = served()
    const { stream, receiver } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    s.store.last.send(bytesOf('late'))
    stream.close()
    stream.close()
    stream.write(bytesOf('later'))
    await s.settle()
    expect(receiver).toMatchObject({ received: [], reasons: [] })
    expect(text(s.store.last.received)).toBe('x')
    expect(s.domainPort.closed).toBe(true)
  })

  test('may be closed or written to within its receiver', async () => {
    const s = served()
    const { stream, receiver } = s.connect()
    receiver.onData = (bytes) => {
      if (bytes[0] === 0) stream.close()
      else stream.write(bytes)
    }
    stream.write(bytesOf('x'))
    await s.settle()
    s.store.last.send(bytesOf('echo'))
    await s.settle()
    expect(text(s.store.last.received)).toBe('xecho')
    s.store.last.send(Uint8Array.of(0))
    await s.settle()
    expect(s.domainPort.closed).toBe(true)
  })

  test('needs exactly a page', () => {
    const short = { page: new Uint8Array(4095), bind: new Port().bind }
    expect(() => connectXenstoreRing(short, new FakeReceiver())).toThrow(
      '"page" expected 4096 bytes, got 4095',
    )
    const options = { ...short, features: RING_FEATURES, connect: () => expect.unreachable() }
    expect(() => serveXenstoreRing(options)).toThrow('"page" expected 4096 bytes, got 4095')
  })

  test('does not change neighbouring pages', async () => {
    const s = served()
    const { stream } = s.connect()
    stream.write(long(3000))
    await s.settle()
    s.store.last.send(long(3000))
    await s.settle()
    const around = new Uint8Array(s.page.buffer)
    expect(
      [around.subarray(0, 4096), around.subarray(8192)].every((bytes) =>
        bytes.every((byte) => byte === 0),
      ),
    ).toBe(true)
    expect(s.page.subarray(2048 + 7 * 4).every((byte) => byte === 0)).toBe(true)
  })
})

describe('a server', () => {
  test('offers the given features', () => {
    const features = ERROR | WATCHDEPTH
    expect(word(served({ features }).page, 'server_features')).toBe(features)
  })

  test('serves requests sent before it started', async () => {
    const page = xenstorePage({ index: 2 ** 32 - 1 })
    page.set(bytesOf('i'), 1023)
    page.set(bytesOf('n'), 0)
    setWord(page, 'req_prod', 1)
    const [, storePort] = Port.pair()
    const received: string[] = []
    const write = (bytes: Uint8Array) => received.push(text([...bytes]))
    const server = serveXenstoreRing({
      page,
      bind: storePort.bind,
      features: RING_FEATURES,
      connect: () => ({ write, close() {}, pause() {}, resume() {} }),
    })
    await turnOfLoop()
    expect(received).toEqual(['in'])
    server.close()
  })

  test('when closed, ends its connection to the store and ignores the page', async () => {
    const s = served()
    const { stream } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    stream.write(bytesOf('y'))
    {
      using _ended = s.server
    }
    await s.settle()
    expect([
      s.store.last.closed,
      text(s.store.last.received),
      s.storePort.closed,
      word(s.page, 'req_cons'),
    ]).toEqual([true, 'x', true, 1])
    s.server.close()
  })

  test('stops reading requests and replies while a domain leaves 64 KiB of replies unread', async () => {
    const s = served()
    const { stream, receiver } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    const { last } = s.store
    last.send(long(64 * 1024 + 1023)) // 1024 bytes are in the ring, the others wait
    expect(last.paused).toBe(false)
    stream.write(bytesOf('y'))
    await settle(s.storePort)
    expect(text(last.received)).toBe('xy')
    last.send(long(1, 64 * 1024 + 1023))
    expect(last.paused).toBe(true)
    last.send(long(100, 64 * 1024 + 1024))
    stream.write(bytesOf('z'))
    await settle(s.storePort)
    expect(text(last.received)).toBe('xy')
    await s.settle()
    expect(text(last.received)).toBe('xyz')
    expect(receiver.received).toEqual([...long(64 * 1024 + 1124)])
  })
})

describe('notifications', () => {
  test('are sent once a turn for updates, and for nothing else', async () => {
    const s = served()
    const { stream } = s.connect()
    await s.settle()
    const count = () => [s.domainPort.notifications, s.storePort.notifications]
    const [domain = 0, store = 0] = count()
    stream.write(long(100))
    expect(count()).toEqual([domain + 1, store])
    await s.settle()
    expect(count()).toEqual([domain + 1, store + 1]) // the store tells of the room
    s.store.last.send(long(100))
    await s.settle()
    expect(count()).toEqual([domain + 2, store + 2])
    for (let i = 0; i < 10; i++) {
      s.domainPort.pending = s.storePort.pending = true
      await s.settle()
    }
    expect(count()).toEqual([domain + 2, store + 2])
  })

  test("are a few per ring's length, however much data there is", async () => {
    const s = served()
    const { stream } = s.connect()
    stream.write(long(100 * 1024))
    await s.settle()
    expect(s.store.last.received.length).toBe(100 * 1024)
    expect(s.domainPort.notifications + s.storePort.notifications).toBeLessThan(220)
  })
})

describe('a peer that always has more', () => {
  test("gets a ring's length per round of the event loop", async () => {
    const d = unserved()
    const { receiver } = d.connect()
    await d.wake()
    receiver.onData = () => setWord(d.page, 'rsp_prod', (word(d.page, 'rsp_cons') + 1024) >>> 0)
    setWord(d.page, 'rsp_prod', 1024)
    d.domainPort.pending = true
    d.domainPort.deliver()
    for (let round = 1; round <= 50; round++) {
      expect(receiver.received.length).toBe(round * 1024)
      d.domainPort.pending = true // xenstored notifies without end; the port is masked
      expect(d.domainPort.deliver()).toBe(false)
      await turnOfLoop()
    }
  })
})
