/**
 * Ways in which one end of a xenstore ring ends the connection, and what the other end then learns.
 */
import { RingProtocolError } from '@xenkit/hypervisor'
import { XENSTORE_ERROR, XENSTORE_SERVER_FEATURE, XsFormatError } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import {
  bytesOf,
  served,
  settle,
  setWord,
  text,
  turnOfLoop,
  unserved,
  word,
} from './support/xenstore-page.ts'

const { RECONNECTION, ERROR } = XENSTORE_SERVER_FEATURE

describe('an error that xenstored reports', () => {
  test.each([
    [1, 'COMM'],
    [2, 'RINGIDX'],
    [3, 'PROTO'],
    [9, '9'],
  ])('%i: the connection ends with the name, %s', async (error, name) => {
    const d = unserved({ features: ERROR })
    const { receiver } = d.connect()
    await d.wake()
    expect(receiver.reasons).toEqual([])
    setWord(d.page, 'error', error)
    await d.wake()
    expect(receiver.reasons).toMatchObject([
      {
        code: 'ERR_XEN_XENSTORE',
        message: `xenstored closed the ring: ${name}`,
        details: { error: name },
      },
    ])
    expect(d.domainPort.closed).toBe(true)
  })

  test('is ignored if the page does not offer that feature', async () => {
    const d = unserved()
    setWord(d.page, 'error', 1)
    const { receiver } = d.connect()
    await d.wake()
    expect(receiver.reasons).toEqual([])
  })
})

describe('xenstored closes the ring', () => {
  test.each([1025, 2 ** 32 - 1])('on a request index %i ahead', async (prod) => {
    const s = served()
    setWord(s.page, 'req_prod', prod)
    s.storePort.pending = true
    await settle(s.storePort)
    expect([word(s.page, 'error'), word(s.page, 'req_cons')]).toEqual([XENSTORE_ERROR.RINGIDX, 0])
    expect(s.domainPort.pending).toBe(true)
  })

  test('on an impossible reply index, even while the store sends', async () => {
    const s = served()
    const { stream, receiver } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    setWord(s.page, 'rsp_cons', 1)
    s.store.last.send(bytesOf('y'))
    expect(word(s.page, 'error')).toBe(XENSTORE_ERROR.RINGIDX)
    expect(s.store.last.closed).toBe(true)
    await s.settle()
    expect(receiver.reasons).toMatchObject([{ message: 'xenstored closed the ring: RINGIDX' }])
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
    expect(receiver.reasons).toMatchObject([{ message: `xenstored closed the ring: ${name}` }])
  })

  test('when the store refuses the connection', async () => {
    const s = served()
    s.store.refuses = true
    const { stream, receiver } = s.connect()
    stream.write(bytesOf('x'))
    await s.settle()
    expect(receiver.reasons).toMatchObject([{ message: 'xenstored closed the ring: COMM' }])
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

  test('and changes nothing until the domain requests a reset, which restarts it', async () => {
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
    expect([word(s.page, 'error'), text(s.store.last.received), receiver.reasons.length]).toEqual([
      XENSTORE_ERROR.NONE,
      'again',
      0,
    ])
  })
})

describe('a domain loses the connection', () => {
  test('when xenstored breaks the ring', async () => {
    const d = unserved()
    const { receiver } = d.connect()
    await d.wake()
    setWord(d.page, 'rsp_prod', 1025)
    await d.wake()
    expect(receiver.reasons).toEqual([
      new RingProtocolError(
        '"rsp_prod" 1025 is 1025 ahead of "rsp_cons" 0, at most 1024 is possible',
        { indices: { prod: 1025, cons: 0 } },
      ),
    ])
  })

  test('after, not within, its own write', async () => {
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

  test('not after it has closed it', async () => {
    const d = unserved()
    const { receiver, stream } = d.connect()
    await d.wake()
    setWord(d.page, 'req_cons', 1)
    stream.write(bytesOf('x'))
    stream.close()
    await turnOfLoop()
    expect(receiver.reasons).toEqual([])
  })

  test('when its channel fails while it waits', async () => {
    const d = unserved()
    const { receiver } = d.connect()
    await d.wake()
    d.domainPort.broken = true
    await d.wake()
    expect(receiver.reasons).toMatchObject([{ message: 'the channel is broken' }])
  })

  test('when its channel fails', async () => {
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
    stream.write(new Uint8Array(16 * 1024 * 1024 + 1024)) // the last 1024 bytes are in the ring
    await turnOfLoop()
    expect(receiver.reasons).toEqual([])
    stream.write(new Uint8Array(1))
    await turnOfLoop()
    expect(receiver.reasons).toMatchObject([
      {
        code: 'ERR_XEN_XENSTORE',
        message: 'xenstored left 16777217 bytes of requests unread',
        details: { errno: 'ENOBUFS' },
      },
    ])
  })
})
