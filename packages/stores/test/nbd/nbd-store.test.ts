/** The NBD store against a server that delays, withholds, cuts and lies: guests must not notice. */
import { NBD_TRANSMISSION, NBD_CMD } from '../../src/nbd/protocol.ts'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  type NbdEvent,
  NbdProtocolError,
  type NbdStore,
  type NbdStoreOptions,
  openNbdStore,
} from '../../src/index.ts'
import {
  type Behaviour,
  HANDSHAKE_BYTES,
  type ServerRequest,
  TestNbdServer,
  simpleReply,
} from './support/nbd-server.ts'
import { until } from '../../../backend/test/support/until.ts'

let server: TestNbdServer
let events: NbdEvent[]
beforeEach(async () => {
  server = await TestNbdServer.listen(64)
  events = []
})
afterEach(() => server.stop())

const open = (o: NbdStoreOptions = {}): Promise<NbdStore> =>
  openNbdStore(server.uri, { onEvent: (event) => events.push(event), ...o })
const kinds = (): string[] => events.map(({ kind }) => kind)
const sector = (fill = 0): Uint8Array => new Uint8Array(512).fill(fill)
const discard = async (store: NbdStore, at: number, count: number): Promise<void> =>
  store.discard?.(at, count, { secure: false })

/**
 * Sets the server's behaviour for the first connections, in order; later connections work normally.
 */
function behave(...behaviours: Behaviour[]): void {
  server.behaviour = (connection) => behaviours[connection] ?? {}
}

describe('a guest does not notice', () => {
  test('a cut in the handshake of every attempt but the last', async () => {
    behave(
      { cutAfterSending: HANDSHAKE_BYTES + 8 },
      { cutAfterSending: 0 },
      { cutAfterSending: 17 },
      { cutAfterReceiving: 10 },
    )
    await using store = await open()
    await store.write?.(0, [sector(5)])
    expect(server.bytes[0]).toBe(5)
    expect(kinds()).toEqual([
      'disconnected',
      'unreachable',
      'unreachable',
      'unreachable',
      'reconnected',
    ])
  })

  test('answers in any order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7], { minLength: 8 }),
        async (order) => {
          const held: { socket: { write(bytes: Uint8Array): void }; answer: () => Uint8Array }[] =
            []
          server.behaviour = () => ({
            onRequest(_, answer, socket) {
              held.push({ socket, answer })
              if (held.length === order.length) {
                for (const i of order) held[i]?.socket.write(held[i].answer())
              }
            },
          })
          server.bytes.forEach((_, i, bytes) => (bytes[i] = i >> 9))
          await using store = await open()
          const reads = order.map(() => sector())
          await Promise.all(reads.map((into, at) => store.read(at, [into])))
          expect(reads.map((read) => [read[0], read[511]])).toEqual(reads.map((_, at) => [at, at]))
        },
      ),
      { numRuns: 20 },
    )
  })
})

test('requests of one tick are in flight together', async () => {
  const held: (() => void)[] = []
  behave({ onRequest: (_, answer, socket) => held.push(() => socket.write(answer())) })
  await using store = await open()
  const reads = Promise.all(Array.from({ length: 32 }, (_, i) => store.read(i, [sector()])))
  await until(() => held.length === 32)
  for (const answer of held) answer()
  await expect(reads).resolves.toHaveLength(32)
})

describe('after a loss', () => {
  const noAnswer = (kind: string, offset: number, ms: number): unknown =>
    expect.stringContaining(`: ${kind} of 512 bytes at ${offset}: no answer within ${ms} ms`)

  /** A server that never answers a request. */
  const silent: Behaviour = { onRequest: () => {} }

  test('requests in flight are sent on the next connection, flushes last', async () => {
    behave(silent)
    await using store = await open()
    const all = Promise.all([
      store.flush?.(),
      store.write?.(1, [sector(1)]),
      store.read(2, [sector()]),
      store.flush?.(),
      discard(store, 3, 1),
    ])
    await until(() => server.requests.length === 5)
    server.cut()
    await all
    const { READ, WRITE, FLUSH, TRIM } = NBD_CMD
    expect(server.requests.map(({ connection, type }) => [connection, type])).toEqual([
      ...[FLUSH, WRITE, READ, FLUSH, TRIM].map((type) => [0, type]),
      ...[WRITE, READ, TRIM, FLUSH, FLUSH].map((type) => [1, type]),
    ])
    expect(kinds()).toEqual(['disconnected', 'reconnected'])
  })

  test('requests wait for a server that is away, and fail when it is for too long', async () => {
    await using store = await open({ reconnectMs: 150 })
    await server.stop()
    const late = {
      code: 'ERR_XEN_NBD',
      message: expect.stringMatching(/no answer within 150 ms: .*ECONNREFUSED/),
      details: { uri: server.uri, errno: 'ETIMEDOUT' },
    }
    await Promise.all(
      [store.read(0, [sector()]), store.write?.(0, [sector()]), store.flush?.()].map((call) =>
        expect(call).rejects.toMatchObject(late),
      ),
    )
    await server.start()
    await until(() => kinds().includes('reconnected'))
    await store.read(0, [sector()])
  })

  test('a request that makes the server drop every connection fails in the end', async () => {
    server.behaviour = () => ({
      onRequest: ({ offset }, answer, socket) =>
        offset === 512 ? socket.destroy() : socket.write(answer()),
    })
    await using store = await open({ reconnectMs: 400 })
    await expect(store.read(1, [sector()])).rejects.toMatchObject({
      details: { errno: 'ETIMEDOUT' },
    })
    // the client waited longer between its attempts, so they are few
    expect(kinds().filter((kind) => kind === 'reconnected').length).toBeLessThan(10)
    await store.read(0, [sector()])
  })

  test('a silent server counts as lost after a while, but only if requests wait', async () => {
    behave(silent)
    await using store = await open({ timeoutMs: 100 })
    const into = sector()
    server.bytes.fill(7)
    // three times `timeoutMs`: without a request in flight a silent server isn't lost
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(kinds()).toEqual([])
    await store.read(0, [into])
    expect(into[511]).toBe(7)
    const error = { message: noAnswer('read', 0, 100) }
    expect(events[0]).toMatchObject({ kind: 'disconnected', error })
  })

  /** A server that never answers requests for the second sector, and all others immediately. */
  const withholding: Behaviour = {
    onRequest: ({ offset }, answer, socket) => void (offset === 512 || socket.write(answer())),
  }

  /** Reads the first sector again and again, so that no connection is ever silent. */
  async function readUntil(store: NbdStore, isOver: () => boolean): Promise<void> {
    while (!isOver()) await store.read(0, [sector()])
  }

  test.each([
    ['read', (store: NbdStore) => store.read(1, [sector()])],
    ['write', (store: NbdStore) => store.write?.(1, [sector(4)])],
    ['trim', (store: NbdStore) => discard(store, 1, 1)],
  ] as const)('a server that withholds the reply to one %s is lost', async (name, make) => {
    behave(withholding)
    await using store = await open({ timeoutMs: 200 })
    let isOver = false
    const call = Promise.resolve(make(store)).finally(() => (isOver = true))
    await readUntil(store, () => isOver)
    await call
    expect(kinds()).toEqual(['disconnected', 'reconnected'])
    const error = { message: noAnswer(name, 512, 200), details: { errno: 'ETIMEDOUT' } }
    expect(events[0]).toMatchObject({ error })
  })

  test('a request without a reply fails in the end', async () => {
    server.behaviour = () => withholding
    await using store = await open({ timeoutMs: 100, reconnectMs: 300 })
    let isOver = false
    const call = Promise.resolve(store.read(1, [sector()])).finally(() => (isOver = true))
    call.catch(() => {})
    await readUntil(store, () => isOver)
    const message = expect.stringContaining('within 300 ms')
    await expect(call).rejects.toMatchObject({ details: { errno: 'ETIMEDOUT' }, message })
  })

  test('a request past its time is not sent again, even if there is a connection', async () => {
    server.behaviour = () => withholding
    await using store = await open({ timeoutMs: 150, reconnectMs: 0, connections: 2 })
    const used = (): number => new Set(server.requests.map(({ connection }) => connection)).size
    while (used() < 2) await Promise.all([store.read(0, [sector()]), store.read(2, [sector()])])
    const error = { details: { errno: 'ETIMEDOUT' } }
    await expect(store.read(1, [sector()])).rejects.toMatchObject(error)
    expect(server.requests.filter(({ offset }) => offset === 512)).toHaveLength(2)
  })

  test('a server that answers a write and never reads its data is lost', async () => {
    // More than the buffers of both sockets hold.
    server.bytes = new Uint8Array(16 * 1024 * 1024)
    behave({ onWriteHeader: ({ cookie }, socket) => socket.write(simpleReply(cookie)) })
    await using store = await open({ timeoutMs: 200 })
    const data = new Uint8Array(server.bytes.length).fill(5)
    await store.write?.(0, [data])
    expect(kinds()).toEqual(['disconnected', 'reconnected'])
    expect(Buffer.compare(server.bytes, data)).toBe(0)
  })

  test('closing a store ends though a reply is withheld', async () => {
    behave(withholding)
    const store = await open({ timeoutMs: 100 })
    const call = Promise.resolve(store.read(1, [sector()]))
    call.catch(() => {})
    await until(() => server.requests.length === 1)
    await store.close()
    await expect(call).rejects.toThrow('the store is closed')
  })

  test('a server that announces its shutdown counts as lost', async () => {
    behave({ onRequest: ({ cookie }, _, socket) => socket.write(simpleReply(cookie, 108)) })
    await using store = await open()
    await store.write?.(0, [sector(3)])
    expect(server.bytes[0]).toBe(3)
    expect(events[0]).toMatchObject({
      kind: 'disconnected',
      error: { details: { errno: 'ESHUTDOWN' } },
    })
  })
})

describe('an export that comes back', () => {
  async function comeBack(change: () => void): Promise<void> {
    await server.stop()
    change()
    await server.start()
  }

  test('larger: the listeners are told', async () => {
    await using store = await open()
    let resized = 0
    const listening = store.onResize?.(() => resized++)
    await comeBack(() => (server.bytes = new Uint8Array(100 * 512)))
    await store.write?.(99, [sector(9)])
    expect([store.sectors, resized, server.bytes.at(-1)]).toEqual([100, 1, 9])
    listening?.[Symbol.dispose]()
    await comeBack(() => (server.bytes = new Uint8Array(101 * 512)))
    await store.read(0, [sector()])
    expect([store.sectors, resized]).toEqual([101, 1])
  })

  test.each([
    [
      'smaller',
      () => {
        server.bytes = new Uint8Array(63 * 512)
      },
      /shrank from 64 sectors to 63/,
    ],
    [
      'read-only',
      () => {
        server.flags |= NBD_TRANSMISSION.READ_ONLY
      },
      /"writable" is gone/,
    ],
    [
      'without flush',
      () => {
        server.flags &= ~NBD_TRANSMISSION.SEND_FLUSH
      },
      /"canFlush" is gone/,
    ],
    [
      'with larger sectors',
      () => {
        server.sizes = { minimum: 4096, preferred: 4096, maximum: 1 << 25 }
      },
      /sectors grew from 512 bytes to 4096/,
    ],
    [
      'with a smaller payload',
      () => {
        server.sizes = { minimum: 1, preferred: 512, maximum: 4096 }
      },
      /takes 4096 bytes at most/,
    ],
    [
      'empty',
      () => {
        server.bytes = new Uint8Array(0)
      },
      /is empty/,
    ],
  ])('%s: nothing is sent to it, requests fail with the reason', async (_, change, says) => {
    await using store = await open({ reconnectMs: 200 })
    await comeBack(change)
    await expect(store.write?.(63, [sector(1)])).rejects.toMatchObject({
      details: { errno: 'ETIMEDOUT' },
      message: expect.stringMatching(says),
    })
    expect(server.requests).toEqual([])
    expect(store.sectors).toBe(64)
  })
})

describe('several connections', () => {
  test('requests use all connections if the server allows several', async () => {
    await using store = await open({ connections: 3 })
    await until(() => server.connections === 3)
    await store.read(0, [sector()])
    const held: (() => void)[] = []
    server.behaviour = () => ({
      onRequest: (_, answer, socket) => held.push(() => socket.write(answer())),
    })
    server.cut()
    await until(() => kinds().filter((kind) => kind === 'reconnected').length === 3)
    server.requests.length = 0
    const reads = Promise.all(Array.from({ length: 12 }, (_, i) => store.read(i, [sector()])))
    await until(() => held.length === 12)
    expect(
      [3, 4, 5].map(
        (connection) =>
          server.requests.filter((request) => request.connection === connection).length,
      ),
    ).toEqual([4, 4, 4])
    for (const answer of held) answer()
    await reads
  })

  test('else there is one connection', async () => {
    server.flags &= ~NBD_TRANSMISSION.CAN_MULTI_CONN
    const store = await open({ connections: 3 })
    await Promise.all(Array.from({ length: 12 }, (_, i) => store.read(i, [sector()])))
    await store.close()
    expect(server.connections).toBe(1)
  })

  test('a lost connection leaves its requests to the others', async () => {
    server.behaviour = (connection) =>
      connection === 0
        ? { onRequest: (_, _answer, socket) => socket.destroy() }
        : connection === 1
          ? {}
          : { cutAfterSending: 0 }
    await using store = await open({ connections: 2 })
    await until(() => server.connections === 2)
    for (let i = 0; i < 10; i++) await store.read(i, [sector()])
    expect(kinds()).not.toContain('reconnected')
  })
})

describe('a server that breaks the protocol loses its connection, with the reason, and changes no other data', () => {
  const lies: readonly [
    string,
    (request: ServerRequest, answer: Uint8Array) => Uint8Array,
    RegExp,
  ][] = [
    [
      'a wrong magic',
      (_, answer) => Buffer.concat([Buffer.from([0]), answer.subarray(1)]),
      /"magic"/,
    ],
    [
      "a cookie that is nobody's",
      ({ cookie }) => simpleReply(cookie + 1000n),
      /"cookie" expected that of a request in flight/,
    ],
    [
      'an answer twice',
      (_, answer) => Buffer.concat([answer, answer]),
      /"cookie" expected that of a request in flight/,
    ],
    [
      'more data than a read asked for',
      (_, answer) => Buffer.concat([answer, new Uint8Array(512).fill(0xee)]),
      /"magic" expected 0x67446698, got 0xeeeeeeee/,
    ],
  ]
  test.each(lies)('%s', async (_, lie, says) => {
    behave({ onRequest: (request, answer, socket) => socket.write(lie(request, answer())) })
    server.bytes.fill(1)
    await using store = await open()
    const first = sector()
    await store.read(0, [first])
    await until(() => kinds().includes('reconnected'))
    expect(events[0]).toMatchObject({
      kind: 'disconnected',
      error: { code: 'ERR_XEN_NBD_PROTOCOL', message: expect.stringMatching(says) },
    })
    expect(events[0]?.kind === 'disconnected' && events[0].error).toBeInstanceOf(NbdProtocolError)
    expect(first).toEqual(sector(1))
    server.bytes.fill(2)
    const second = sector()
    await store.read(0, [second])
    expect([first, second]).toEqual([sector(1), sector(2)])
  })

  test('garbage of any kind, at any time', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 600 }),
        fc.boolean(),
        async (garbage, answerFirst) => {
          const first = server.connections
          server.behaviour = (connection) =>
            connection === first
              ? {
                  onRequest: (_, answer, socket) =>
                    socket.end(answerFirst ? Buffer.concat([answer(), garbage]) : garbage),
                }
              : {}
          server.bytes.fill(4)
          await using store = await open()
          const got = sector()
          await store.read(5, [got])
          expect(got).toEqual(sector(4))
        },
      ),
      { numRuns: 30 },
    )
  })

  test('a write that is answered before it was sent keeps its data until it is', async () => {
    let early: (() => void) | undefined
    await server.stop()
    server = await TestNbdServer.listen(65536)
    server.flags &= ~NBD_TRANSMISSION.SEND_FLUSH
    let afterwards: (() => void) | undefined
    behave({
      onWriteHeader({ cookie }, socket) {
        socket.write(simpleReply(cookie))
        afterwards = early
      },
      onRequest: (_, answer, socket) => (early = () => socket.write(answer())),
    })
    await using store = await open()
    const read = store.read(0, [sector()])
    await until(() => early !== undefined)
    const data = new Uint8Array(16 << 20).fill(6) // more than the buffers of both sockets hold
    let settled = false
    const write = Promise.resolve(store.write?.(8, [data])).then(() => (settled = true))
    await until(() => afterwards !== undefined)
    afterwards?.() // the connection must still be in use
    await read
    expect(settled).toBe(false)
    server.resume()
    await write
    data.fill(0)
    await until(() => server.bytes[8 * 512] !== 0)
    expect(server.bytes.subarray(8 * 512, 8 * 512 + data.length).every((byte) => byte === 6)).toBe(
      true,
    )
  })
})

test('a server that closes without reading a write counts as lost', async () => {
  await server.stop()
  server = await TestNbdServer.listen(65536)
  behave({ onWriteHeader: (_, socket) => socket.end() })
  await using store = await open()
  await store.write?.(0, [new Uint8Array(16 << 20).fill(6)])
  expect(kinds()).toEqual(['disconnected', 'reconnected'])
  server.resume()
})

test.each([
  [1, 'EPERM'],
  [5, 'EIO'],
  [12, 'ENOMEM'],
  [22, 'EINVAL'],
  [28, 'ENOSPC'],
  [75, 'EOVERFLOW'],
  [95, 'ENOTSUP'],
  [999, 'EINVAL'],
])('error %i of the server is %s', async (error, errno) => {
  behave({ onRequest: ({ cookie }, _, socket) => socket.write(simpleReply(cookie, error)) })
  await using store = await open()
  await expect(store.write?.(2, [sector()])).rejects.toMatchObject({
    code: 'ERR_XEN_NBD',
    details: { errno },
    message: `${server.uri}: write of 512 bytes at 1024: ${errno}`,
  })
  await expect(store.read(2, [sector()])).rejects.toMatchObject({ details: { errno } })
  expect(kinds()).toEqual([])
})

test('a call in pieces fails only when all pieces have settled', async () => {
  server.sizes = { minimum: 1, preferred: 512, maximum: 512 }
  let last: (() => void) | undefined
  behave({
    onRequest: ({ cookie, offset }, answer, socket) =>
      offset === 512
        ? (last = () => socket.write(answer()))
        : socket.write(offset === 0 ? simpleReply(cookie, 5) : answer()),
  })
  await using store = await open()
  const order: string[] = []
  const write = Promise.resolve(store.write?.(0, [sector(1), sector(2)])).catch(() =>
    order.push('failed'),
  )
  await store.read(9, [sector()]) // the server answers this read after the write's first part
  // callbacks of the write's first part have run by now, if there are any
  await new Promise((resolve) => setImmediate(resolve))
  order.push('last')
  last?.()
  await write
  expect(order).toEqual(['last', 'failed'])
})

describe('close', () => {
  test('waits for requests in flight, disconnects, and refuses later ones', async () => {
    let answerIt: (() => void) | undefined
    behave({ onRequest: (_, answer, socket) => (answerIt = () => socket.write(answer())) })
    const store = await open()
    const order: string[] = []
    const write = Promise.resolve(store.write?.(0, [sector(1)])).then(() => order.push('written'))
    await until(() => answerIt !== undefined)
    const closing = Promise.all([store.close(), store.close()]).then(() => order.push('closed'))
    await expect(store.read(0, [sector()])).rejects.toThrow(/the store is closed/)
    answerIt?.()
    await Promise.all([write, closing])
    expect(order).toEqual(['written', 'closed'])
    await until(() => server.openConnections === 0)
    expect(server.requests.map(({ type }) => type)).toEqual([NBD_CMD.WRITE, NBD_CMD.DISC])
    expect(kinds()).toEqual([])
  })

  test('while the server is away: waiting requests fail, and no further attempt is made', async () => {
    const store = await open({ reconnectMs: Infinity })
    await server.stop()
    const waiting = [store.read(0, [sector()]), store.flush?.()].map((call) =>
      expect(call).rejects.toThrow(/the store is closed/),
    )
    await until(() => kinds().includes('unreachable'))
    await store.close()
    await Promise.all(waiting)
    const told = events.length
    await server.start()
    const before = server.connections
    // longer than the delay before the next attempt to connect
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect([server.connections, events.length]).toEqual([before, told])
  })

  test('in the middle of a handshake', async () => {
    const store = await open()
    server.behaviour = () => ({ greeting: new Uint8Array(0) })
    const before = server.connections
    server.cut()
    await until(() => server.connections > before)
    await store.close()
    await until(() => server.openConnections === 0)
    expect(kinds()).toEqual(['disconnected'])
  })

  test('a server that goes away with the last requests fails them', async () => {
    behave({ onRequest: () => {} })
    const store = await open()
    const read = Promise.resolve(store.read(0, [sector()])).catch(String)
    await until(() => server.requests.length === 1)
    const closing = store.close()
    server.cut()
    expect(await read).toMatch(/the store is closed/)
    await closing
    expect(server.connections).toBe(1)
  })
})
