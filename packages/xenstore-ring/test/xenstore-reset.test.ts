/**
 * Connections over a xenstore ring begin and end: nothing of an earlier connection may reach a
 * later one.
 */
import {
  XENSTORE_CONNECTED,
  XENSTORE_ERROR,
  XENSTORE_RECONNECT,
  XENSTORE_SERVER_FEATURE,
} from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import {
  bytesOf,
  long,
  served,
  settle,
  setWord,
  text,
  unserved,
  word,
} from './support/xenstore-page.ts'

const { RECONNECTION, ERROR } = XENSTORE_SERVER_FEATURE

describe('a reset', () => {
  test('starts a connection: nothing of an earlier user is left', async () => {
    const s = served()
    const first = s.connect()
    first.stream.write(bytesOf('half a requ'))
    await s.settle()
    s.store.last.send(long(3000))
    s.domainPort.bind(() => {}) // a second bind, as after the program has died
    const second = s.connect()
    second.stream.write(bytesOf('new'))
    await s.settle()
    expect(s.store.connections.map(({ closed, received }) => [closed, text(received)])).toEqual([
      [true, 'half a requ'],
      [false, 'new'],
    ])
    s.store.last.send(bytesOf('reply'))
    await s.settle()
    expect(text(second.receiver.received)).toBe('reply')
  })

  test("ends a connection: the store's connection is closed at once", async () => {
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

  test('must complete first, whatever the rest of the page says', async () => {
    const d = unserved({ features: RECONNECTION | ERROR })
    const { stream, receiver } = d.connect()
    stream.write(bytesOf('early'))
    expect(word(d.page, 'connection')).toBe(XENSTORE_RECONNECT)
    expect(d.domainPort.notifications).toBe(1)
    for (const name of ['req_cons', 'rsp_prod', 'error'] as const) setWord(d.page, name, 77_777)
    await d.wake()
    await d.wake()
    expect(receiver.reasons).toEqual([])
    for (const name of ['req_cons', 'req_prod', 'rsp_prod', 'rsp_cons'] as const) {
      setWord(d.page, name, 2 ** 32 - 2)
    }
    setWord(d.page, 'error', XENSTORE_ERROR.NONE)
    setWord(d.page, 'connection', XENSTORE_CONNECTED)
    await d.wake()
    expect(word(d.page, 'req_prod')).toBe(3)
    expect(text([...d.page.subarray(1022, 1024), ...d.page.subarray(0, 3)])).toBe('early')
    expect(receiver).toMatchObject({ received: [], reasons: [] })
  })

  test('that another user requested must complete first, feature or not', async () => {
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

  test('empties the page before it is reported', async () => {
    const s = served()
    for (const name of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod', 'error'] as const) {
      setWord(s.page, name, 4711)
    }
    setWord(s.page, 'connection', XENSTORE_RECONNECT)
    const notified: number[][] = []
    s.storePort.onNotify = () =>
      notified.push(
        (['connection', 'req_cons', 'req_prod', 'rsp_cons', 'rsp_prod', 'error'] as const).map(
          (name) => word(s.page, name),
        ),
      )
    s.storePort.pending = true
    await settle(s.storePort)
    expect(notified).toEqual([[0, 0, 0, 0, 0, 0]])
  })

  test('may be requested any number of times', async () => {
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

describe('a reset by xenstored', () => {
  const INDICES = ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const

  /** Serves a page to a domain that starts, like Linux, at whatever indices the page has. */
  async function used() {
    const s = served({ features: ERROR })
    s.page.set(bytesOf('first'), 0)
    setWord(s.page, 'req_prod', 5)
    s.storePort.pending = true
    await settle(s.storePort)
    s.store.last.send(bytesOf('reply'))
    return s
  }

  test('empties the ring and offers the given features; the domain continues at 0', async () => {
    const s = await used()
    s.store.last.send(long(3000)) // most of these bytes wait for room in the ring
    const { notifications } = s.storePort
    s.server.reset(RECONNECTION)
    expect(INDICES.map((name) => word(s.page, name))).toEqual([0, 0, 0, 0])
    expect(word(s.page, 'server_features')).toBe(RECONNECTION)
    expect(s.store.last.closed).toBe(true)
    expect(s.storePort.notifications).toBe(notifications)
    s.page.set(bytesOf('again'), 0)
    setWord(s.page, 'req_prod', 5)
    s.storePort.pending = true
    await settle(s.storePort)
    s.store.last.send(bytesOf('yes'))
    expect(s.store.connections.map(({ received }) => text(received))).toEqual(['first', 'again'])
    expect(INDICES.map((name) => word(s.page, name))).toEqual([5, 5, 0, 3])
    expect(text([...s.page.subarray(1024, 1027)])).toBe('yes')
  })

  test('completes one that the domain has requested', async () => {
    const s = await used()
    setWord(s.page, 'connection', XENSTORE_RECONNECT)
    const { notifications } = s.storePort
    s.server.reset(ERROR)
    expect(word(s.page, 'connection')).toBe(XENSTORE_CONNECTED)
    expect(s.storePort.notifications).toBe(notifications + 1)
  })

  test('restarts a ring that was closed because of an error', async () => {
    const s = await used()
    s.store.last.receiver.closed(new Error('released'))
    expect(word(s.page, 'error')).toBe(XENSTORE_ERROR.COMM)
    s.server.reset(ERROR)
    expect(word(s.page, 'error')).toBe(XENSTORE_ERROR.NONE)
    s.page.set(bytesOf('again'), 0)
    setWord(s.page, 'req_prod', 5)
    s.storePort.pending = true
    await settle(s.storePort)
    expect(text(s.store.last.received)).toBe('again')
  })
})

test('features that a page does not offer are not used', async () => {
  const s = served({ features: 0 })
  setWord(s.page, 'connection', XENSTORE_RECONNECT)
  setWord(s.page, 'req_prod', 5000)
  s.storePort.pending = true
  await settle(s.storePort)
  const words = ['connection', 'req_prod', 'error', 'server_features'] as const
  expect(words.map((name) => word(s.page, name))).toEqual([XENSTORE_RECONNECT, 5000, 0, 0])
})

describe('a xenstored without the feature', () => {
  test('is used from its present indices; replies already there are discarded', async () => {
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

  test('gets no request for one when the connection ends', async () => {
    const d = unserved()
    const { stream } = d.connect()
    await d.wake()
    stream.close()
    expect([word(d.page, 'connection'), d.domainPort.notifications]).toEqual([
      XENSTORE_CONNECTED,
      0,
    ])
  })
})
