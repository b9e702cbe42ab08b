/** Both ends of a xenstore ring: what each does with the page, step by step. */
import { RingProtocolError } from '@xenkit/hypervisor'
import { XENSTORE_CONNECTED, XENSTORE_ERROR, XENSTORE_RECONNECT, XENSTORE_SERVER_FEATURE, XsFormatError } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { connectXenstoreRing, serveXenstoreRing } from '../src/index.ts'
import { bytesOf, FakeReceiver, Port, served, settle, setWord, text, turnOfLoop, word, xenstorePage } from './xenstore-page.ts'

const { RECONNECTION, ERROR, WATCHDEPTH } = XENSTORE_SERVER_FEATURE

/** Numbered bytes, more than a ring holds. */
const long = (length: number, first = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => ((first + i) * 167 + ((first + i) >>> 8)) & 0xff)

/** A domain's end on a page whose xenstored is the test. */
function unserved(o: { index?: number; features?: number } = {}) {
  const page = xenstorePage(o)
  setWord(page, 'server_features', o.features ?? 0)
  const [domainPort, storePort] = Port.pair()
  const connect = () => {
    const receiver = new FakeReceiver()
    return { receiver, stream: connectXenstoreRing({ page, bind: domainPort.bind }, receiver) }
  }
  /** xenstored has changed something. */
  const wake = async (): Promise<void> => {
    domainPort.pending = true
    await settle(domainPort)
  }
  return { page, domainPort, storePort, connect, wake }
}

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

  test('takes the bytes before it returns', async () => {
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

  test('opens one to the store with its first bytes, not before', async () => {
    const s = served()
    const { stream } = s.connect()
    await s.settle()
    expect(s.store.connections).toEqual([])
    stream.write(bytesOf('x'))
    await s.settle()
    expect(s.store.connections.length).toBe(1)
  })

  test('is silent once it is closed, and its receiver too', async () => {
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

  test('may be closed, or written to, by its receiver', async () => {
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

  test('is to a page', () => {
    const short = { page: new Uint8Array(4095), bind: new Port().bind }
    expect(() => connectXenstoreRing(short, new FakeReceiver())).toThrow('"page" expected 4096 bytes, got 4095')
    expect(() => serveXenstoreRing({ ...short, features: 0, connect: () => expect.unreachable() })).toThrow('"page" expected 4096 bytes, got 4095')
  })

  test('leaves the neighbours of the page alone', async () => {
    const s = served()
    const { stream } = s.connect()
    stream.write(long(3000))
    await s.settle()
    s.store.last.send(long(3000))
    await s.settle()
    const around = new Uint8Array(s.page.buffer)
    expect([around.subarray(0, 4096), around.subarray(8192)].every((bytes) => bytes.every((byte) => byte === 0))).toBe(true)
    expect(s.page.subarray(2048 + 7 * 4).every((byte) => byte === 0)).toBe(true)
  })
})

describe('a reset', () => {
  test('begins a connection: nothing of an earlier user is left', async () => {
    const s = served()
    const first = s.connect()
    first.stream.write(bytesOf('half a requ'))
    await s.settle()
    s.store.last.send(long(3000))
    s.domainPort.bind(() => {}) // the program dies
    const second = s.connect()
    second.stream.write(bytesOf('new'))
    await s.settle()
    expect(s.store.connections.map(({ closed, received }) => [closed, text(received)])).toEqual([[true, 'half a requ'], [false, 'new']])
    s.store.last.send(bytesOf('reply'))
    await s.settle()
    expect(text(second.receiver.received)).toBe('reply')
  })

  test('ends a connection: the store is left at once', async () => {
    const s = served()
    const { stream } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    stream.close()
    expect(word(s.page, 'connection')).toBe(XENSTORE_RECONNECT)
    await settle(s.storePort)
    expect(s.store.last.closed).toBe(true)
    expect(word(s.page, 'connection')).toBe(XENSTORE_CONNECTED)
  })

  test('is waited for, whatever the rest of the page says', async () => {
    const d = unserved({ features: RECONNECTION | ERROR })
    const { stream, receiver } = d.connect()
    stream.write(bytesOf('early'))
    expect(word(d.page, 'connection')).toBe(XENSTORE_RECONNECT)
    expect(d.domainPort.notifications).toBe(1)
    for (const name of ['req_cons', 'rsp_prod', 'error'] as const) setWord(d.page, name, 77_777)
    await d.wake()
    await d.wake()
    expect(receiver.reasons).toEqual([])
    for (const name of ['req_cons', 'req_prod', 'rsp_prod', 'rsp_cons'] as const) setWord(d.page, name, 2 ** 32 - 2)
    setWord(d.page, 'error', XENSTORE_ERROR.NONE)
    setWord(d.page, 'connection', XENSTORE_CONNECTED)
    await d.wake()
    expect(word(d.page, 'req_prod')).toBe(3)
    expect(text([...d.page.subarray(1022, 1024), ...d.page.subarray(0, 3)])).toBe('early')
    expect(receiver).toMatchObject({ received: [], reasons: [] })
  })

  test('that somebody else asked for is waited for, feature or not', async () => {
    const d = unserved()
    setWord(d.page, 'connection', XENSTORE_RECONNECT)
    const { stream } = d.connect()
    stream.write(bytesOf('x'))
    await d.wake()
    expect(word(d.page, 'req_prod')).toBe(0)
    expect(d.domainPort.notifications).toBe(0)
    setWord(d.page, 'connection', XENSTORE_CONNECTED)
    await d.wake()
    expect(word(d.page, 'req_prod')).toBe(1)
  })

  test('empties the page before it says so', async () => {
    const s = served()
    for (const name of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod', 'error'] as const) setWord(s.page, name, 4711)
    setWord(s.page, 'connection', XENSTORE_RECONNECT)
    const notified: number[][] = []
    s.storePort.onNotify = () => notified.push((['connection', 'req_cons', 'req_prod', 'rsp_cons', 'rsp_prod', 'error'] as const).map((name) => word(s.page, name)))
    s.storePort.pending = true
    await settle(s.storePort)
    expect(notified).toEqual([[0, 0, 0, 0, 0, 0]])
  })

  test('as often as the domain likes', async () => {
    const s = served()
    for (let life = 0; life < 20; life++) {
      const { stream, receiver } = s.connect()
      stream.write(long(1500, life))
      await s.settle()
      expect(s.store.last.received).toEqual([...long(1500, life)])
      s.store.last.send(long(1500, life))
      if (life % 2 === 0) await s.settle()
      stream.close()
      if (life % 3 === 0) await s.settle()
      expect(receiver.reasons).toEqual([])
    }
  })
})

describe('a xenstored without the feature', () => {
  test('is met where its indices are; replies that lie there are thrown away', async () => {
    const d = unserved({ index: 2 ** 32 - 3 })
    d.page.set(bytesOf('old'), 2045)
    setWord(d.page, 'rsp_prod', 2)
    const { stream, receiver } = d.connect()
    stream.write(bytesOf('hello'))
    await d.wake()
    expect(word(d.page, 'connection')).toBe(XENSTORE_CONNECTED)
    expect([word(d.page, 'rsp_cons'), word(d.page, 'req_prod')]).toEqual([2, 2])
    d.page.set(bytesOf('new'), 1026)
    setWord(d.page, 'rsp_prod', 5)
    await d.wake()
    expect(text(receiver.received)).toBe('new')
    expect(receiver.reasons).toEqual([])
  })

  test('is not asked for one when the connection ends', async () => {
    const d = unserved()
    const { stream } = d.connect()
    await d.wake()
    stream.close()
    expect([word(d.page, 'connection'), d.domainPort.notifications]).toEqual([XENSTORE_CONNECTED, 0])
  })
})

describe('xenstored says that it gave up', () => {
  test.each([[1, 'COMM'], [2, 'RINGIDX'], [3, 'PROTO'], [9, '9']])('%i: the connection ends with the name, %s', async (error, name) => {
    const d = unserved({ features: ERROR })
    const { receiver } = d.connect()
    await d.wake()
    expect(receiver.reasons).toEqual([])
    setWord(d.page, 'error', error)
    await d.wake()
    expect(receiver.reasons).toMatchObject([{ code: 'ERR_XEN_XENSTORE', message: `xenstored gave up on the ring: ${name}`, details: { error: name } }])
    expect(d.domainPort.closed).toBe(true)
  })

  test('is nothing where that word means nothing', async () => {
    const d = unserved()
    setWord(d.page, 'error', 1)
    const { receiver } = d.connect()
    await d.wake()
    expect(receiver.reasons).toEqual([])
  })
})

describe('xenstored gives up', () => {
  test.each([1025, 2 ** 32 - 1])('on a request index %i ahead', async (prod) => {
    const s = served()
    setWord(s.page, 'req_prod', prod)
    s.storePort.pending = true
    await settle(s.storePort)
    expect([word(s.page, 'error'), word(s.page, 'req_cons')]).toEqual([XENSTORE_ERROR.RINGIDX, 0])
    expect(s.domainPort.pending).toBe(true)
  })

  test('on a reply index that nobody can have set, also while the store sends', async () => {
    const s = served()
    const { stream, receiver } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    setWord(s.page, 'rsp_cons', 1)
    s.store.last.send(bytesOf('y'))
    expect(word(s.page, 'error')).toBe(XENSTORE_ERROR.RINGIDX)
    expect(s.store.last.closed).toBe(true)
    await s.settle()
    expect(receiver.reasons).toMatchObject([{ message: 'xenstored gave up on the ring: RINGIDX' }])
  })

  test.each([
    ['PROTO', new XsFormatError(5000)],
    ['COMM', new Error('domain 1 was released from xenstored')],
  ] as const)('when the store does: %s', async (name, reason) => {
    const s = served()
    const { stream, receiver } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    s.store.last.receiver.closed(reason)
    expect(word(s.page, 'error')).toBe(XENSTORE_ERROR[name])
    await s.settle()
    expect(receiver.reasons).toMatchObject([{ message: `xenstored gave up on the ring: ${name}` }])
  })

  test('when the store takes no connection', async () => {
    const s = served()
    s.store.refuses = true
    const { stream, receiver } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    expect(receiver.reasons).toMatchObject([{ message: 'xenstored gave up on the ring: COMM' }])
  })

  test('when it cannot notify', async () => {
    const s = served()
    const { stream } = s.connect()
    await s.settle()
    s.storePort.broken = true
    stream.write(bytesOf('x'))
    await s.settle()
    expect(word(s.page, 'error')).toBe(XENSTORE_ERROR.COMM)
  })

  test('and touches nothing until the domain asks for a reset, which begins anew', async () => {
    const s = served()
    setWord(s.page, 'req_prod', 5000)
    s.storePort.pending = true
    await settle(s.storePort)
    setWord(s.page, 'req_prod', 3)
    const before = s.page.slice()
    s.storePort.pending = true
    await settle(s.storePort)
    expect(s.page.slice()).toEqual(before)
    expect(s.store.connections).toEqual([])

    const { stream, receiver } = s.connect()
    stream.write(bytesOf('again'))
    await s.settle()
    expect([word(s.page, 'error'), text(s.store.last.received), receiver.reasons.length]).toEqual([XENSTORE_ERROR.NONE, 'again', 0])
  })
})

describe('a domain loses the connection', () => {
  test('when xenstored breaks the ring', async () => {
    const d = unserved()
    const { receiver } = d.connect()
    await d.wake()
    setWord(d.page, 'rsp_prod', 1025)
    await d.wake()
    expect(receiver.reasons).toEqual([new RingProtocolError('"rsp_prod" 1025 is 1025 ahead of "rsp_cons" 0, at most 1024 is possible', { indices: { prod: 1025, cons: 0 } })])
  })

  test('not while it writes', async () => {
    const d = unserved()
    const { receiver, stream } = d.connect()
    await d.wake()
    setWord(d.page, 'req_cons', 1)
    stream.write(bytesOf('x'))
    stream.write(bytesOf('y'))
    expect(receiver.reasons).toEqual([])
    await turnOfLoop()
    expect(receiver.reasons).toMatchObject([{ code: 'ERR_XEN_RING_PROTOCOL' }])
  })

  test('not when it has closed it meanwhile', async () => {
    const d = unserved()
    const { receiver, stream } = d.connect()
    await d.wake()
    setWord(d.page, 'req_cons', 1)
    stream.write(bytesOf('x'))
    stream.close()
    await turnOfLoop()
    expect(receiver.reasons).toEqual([])
  })

  test('when its channel breaks while it listens', async () => {
    const d = unserved()
    const { receiver } = d.connect()
    await d.wake()
    d.domainPort.broken = true
    await d.wake()
    expect(receiver.reasons).toMatchObject([{ message: 'the channel is broken' }])
  })

  test('when its channel breaks', async () => {
    const d = unserved({ features: RECONNECTION })
    d.domainPort.broken = true
    const { receiver } = d.connect()
    await turnOfLoop()
    expect(receiver.reasons).toMatchObject([{ message: 'the channel is broken' }])
  })

  test('when more than 16 MiB wait for xenstored', async () => {
    const d = unserved()
    const { receiver, stream } = d.connect()
    await d.wake()
    stream.write(new Uint8Array(16 * 1024 * 1024 + 1024)) // the last 1024 lie in the ring
    await turnOfLoop()
    expect(receiver.reasons).toEqual([])
    stream.write(new Uint8Array(1))
    await turnOfLoop()
    expect(receiver.reasons).toMatchObject([{ code: 'ERR_XEN_XENSTORE', message: 'xenstored left 16777217 bytes of requests unread', details: { errno: 'ENOBUFS' } }])
  })
})

describe('a server', () => {
  test('advertises the ring\'s features with the store\'s', () => {
    expect(word(served({ features: WATCHDEPTH }).page, 'server_features')).toBe(RECONNECTION | ERROR | WATCHDEPTH)
  })

  test('serves what the domain sent before it was there', async () => {
    const page = xenstorePage({ index: 2 ** 32 - 1 })
    page.set(bytesOf('i'), 1023)
    page.set(bytesOf('n'), 0)
    setWord(page, 'req_prod', 1)
    const [, storePort] = Port.pair()
    const received: string[] = []
    const server = serveXenstoreRing({ page, bind: storePort.bind, features: 0, connect: () => ({ write: (bytes) => received.push(text([...bytes])), close() {}, pause() {}, resume() {} }) })
    await turnOfLoop()
    expect(received).toEqual(['in'])
    server.close()
  })

  test('ends its connection to the store, and looks at the page no more', async () => {
    const s = served()
    const { stream } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    stream.write(bytesOf('y'))
    {
      using _ended = s.server
    }
    await s.settle()
    expect([s.store.last.closed, text(s.store.last.received), s.storePort.closed, word(s.page, 'req_cons')]).toEqual([true, 'x', true, 1])
    s.server.close()
  })

  test('listens to a domain that leaves 64 KiB of replies no more, until it reads; nor does it take more', async () => {
    const s = served()
    const { stream, receiver } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    const { last } = s.store
    last.send(long(64 * 1024 + 1023)) // 1024 lie in the ring
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
  test('tell of every update, once a turn, and of nothing else', async () => {
    const s = served()
    const { stream } = s.connect()
    await s.settle()
    const count = () => [s.domainPort.notifications, s.storePort.notifications]
    const [domain = 0, store = 0] = count()
    stream.write(long(100))
    expect(count()).toEqual([domain + 1, store])
    await s.settle()
    expect(count()).toEqual([domain + 1, store + 1]) // taken: there is room again
    s.store.last.send(long(100))
    await s.settle()
    expect(count()).toEqual([domain + 2, store + 2])
    for (let i = 0; i < 10; i++) {
      s.domainPort.pending = s.storePort.pending = true
      await s.settle()
    }
    expect(count()).toEqual([domain + 2, store + 2])
  })

  test('are a few per ring\'s length, however much there is', async () => {
    const s = served()
    const { stream } = s.connect()
    stream.write(long(100 * 1024))
    await s.settle()
    expect(s.store.last.received.length).toBe(100 * 1024)
    expect(s.domainPort.notifications + s.storePort.notifications).toBeLessThan(220)
  })
})

describe('a peer that has more whenever one looks', () => {
  test('gets a ring\'s length per round of the event loop', async () => {
    const d = unserved()
    const { receiver } = d.connect()
    await d.wake()
    receiver.onData = () => setWord(d.page, 'rsp_prod', (word(d.page, 'rsp_cons') + 1024) >>> 0)
    setWord(d.page, 'rsp_prod', 1024)
    d.domainPort.pending = true
    d.domainPort.deliver()
    for (let round = 1; round <= 50; round++) {
      expect(receiver.received.length).toBe(round * 1024)
      d.domainPort.pending = true // and notifies without end: the port is masked
      expect(d.domainPort.deliver()).toBe(false)
      await turnOfLoop()
    }
  })
})
