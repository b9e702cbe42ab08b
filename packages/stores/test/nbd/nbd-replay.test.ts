/**
 * Writes that were answered but not flushed survive a server's restart: the client replays them, so
 * a successful flush covers them and reads return them.
 */
import { NBD_TRANSMISSION, NBD_CMD } from '../../src/nbd/protocol.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  type NbdEvent,
  type NbdStore,
  type NbdStoreOptions,
  openNbdStore,
} from '../../src/index.ts'
import { type ServerRequest, TestNbdServer, simpleReply } from './support/nbd-server.ts'
import { until } from '../../../backend/test/support/until.ts'

const { READ, WRITE, FLUSH } = NBD_CMD
const MIB = 1 << 20

let server: TestNbdServer
let events: NbdEvent[]
beforeEach(async () => {
  server = await TestNbdServer.listen(64)
  events = []
})
afterEach(() => server.stop())

const open = (o: NbdStoreOptions = {}): Promise<NbdStore> =>
  openNbdStore(server.uri, { onEvent: (event) => events.push(event), ...o })
const sectors = (count: number, fill = 0): Uint8Array => new Uint8Array(count * 512).fill(fill)
const discard = async (store: NbdStore, at: number, count: number): Promise<void> =>
  store.discard?.(at, count, { secure: false })
const reconnections = (): NbdEvent[] => events.filter(({ kind }) => kind === 'reconnected')
const sent = (type: number): number =>
  server.requests.filter((request) => request.type === type).length

async function restart(): Promise<void> {
  await server.kill()
  await server.start()
}

/**
 * Holds back the answers to the requests that `which` selects. Returns the list of held answers:
 * each function sends its answer.
 */
function hold(which: (request: ServerRequest) => boolean): (() => void)[] {
  const held: (() => void)[] = []
  server.behaviour = () => ({
    onRequest(request, answer, socket) {
      const done = (): void => void (socket.destroyed || socket.write(answer()))
      if (which(request)) held.push(done)
      else done()
    },
  })
  return held
}

/**
 * Waits until the store and server have done everything that needs no further event of the test.
 */
async function rest(): Promise<void> {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
}

test('a flush covers what servers that were killed had answered, in order', async () => {
  await using store = await open()
  await store.write?.(2, [sectors(1, 7)])
  await store.flush?.()
  const data = sectors(2, 1)
  await store.write?.(0, [data.subarray(0, 100), data.subarray(100)])
  data.fill(9) // the store has copied the data: the guest may reuse its page
  await store.write?.(1, [sectors(2, 2)])
  await discard(store, 2, 1)
  await restart()
  await until(() => reconnections().length === 1)
  await store.write?.(3, [sectors(1, 3)])
  await restart()
  await store.flush?.()
  expect(
    [0, 1, 2, 3].map((at) => [server.durable[at * 512], server.durable[at * 512 + 511]]),
  ).toEqual([
    [1, 1],
    [2, 2],
    [0, 0],
    [3, 3],
  ])
})

test('a read after the reconnection sees it', async () => {
  await using store = await open()
  await store.write?.(5, [sectors(1, 5)])
  await server.kill()
  const got = sectors(1)
  const read = store.read(5, [got])
  await server.start()
  await read
  expect(got).toEqual(sectors(1, 5))
})

test('the event has the number of replayed changes: those that no later flush covered', async () => {
  await using store = await open()
  const lose = async (): Promise<NbdEvent | undefined> => {
    events = []
    server.cut()
    await until(() => reconnections().length > 0)
    return events.at(-1)
  }
  expect(await lose()).toEqual({ kind: 'reconnected', replayed: 0 })
  await store.write?.(0, [sectors(1, 1)])
  expect(await lose()).toEqual({ kind: 'reconnected', replayed: 1 })
  await store.flush?.()
  expect(await lose()).toEqual({ kind: 'reconnected', replayed: 0 })
  // A flush that is answered after a write, but was sent before it, may not have covered it.
  const held = hold(({ type }) => type === FLUSH)
  await lose()
  await store.write?.(0, [sectors(1, 1)])
  const flush = store.flush?.()
  await discard(store, 0, 1)
  await until(() => held.length === 1)
  held[0]?.()
  await flush
  expect(await lose()).toEqual({ kind: 'reconnected', replayed: 1 })
})

test('the replay precedes the requests that were in flight, with the last change of each place', async () => {
  await using store = await open()
  for (const fill of [1, 2, 3]) await store.write?.(fill === 3 ? 9 : 0, [sectors(1, fill)])
  await server.kill()
  server.requests.length = 0
  const held = hold(() => true)
  const write = store.write?.(0, [sectors(1, 4)])
  const flush = store.flush?.()
  await server.start()
  const steps: number[][] = []
  for (const count of [2, 2]) {
    await until(() => held.length === count)
    steps.push(server.requests.splice(0).map(({ type, offset }) => (type === WRITE ? offset : -1)))
    for (const answer of held.splice(0).toReversed()) answer() // a server may answer in any order
  }
  await Promise.all([write, flush])
  expect(steps).toEqual([
    [0, 9 * 512],
    [0, -1],
  ])
  expect(server.bytes[0]).toBe(4)
})

test('a connection that is lost during a replay starts it again', async () => {
  await using store = await open()
  for (let at = 0; at < 3; at++) await store.write?.(0, [sectors(3 - at, at + 1)])
  await server.kill()
  const second = server.connections + 1
  server.behaviour = (connection) => ({
    onRequest: (_, answer, socket) =>
      connection < second && server.requests.at(-1)?.length === 1024
        ? socket.destroy()
        : socket.write(answer()),
  })
  await server.start()
  await store.flush?.()
  expect([0, 1, 2].map((at) => server.durable[at * 512])).toEqual([3, 2, 1])
  expect(reconnections()).toEqual([{ kind: 'reconnected', replayed: 3 }])
})

test('a connection that is lost during a replay leaves no place with older data', async () => {
  await using store = await open({ connections: 2 })
  while (!server.requests.some(({ connection }) => connection === 1)) {
    await Promise.all([store.read(0, [sectors(1)]), store.read(1, [sectors(1)])])
  }
  for (const fill of [1, 2]) await store.write?.(0, [sectors(1, fill)])
  let lost = false
  // The server stays up. The next connection breaks after its first request is executed.
  server.behaviour = () => ({
    onRequest(_, answer, socket) {
      const bytes = answer()
      if (lost) return void socket.write(bytes)
      lost = true
      socket.destroy()
    },
  })
  server.cut(0)
  await until(() => lost)
  const into = sectors(1)
  await store.read(0, [into])
  expect(into[0]).toBe(2)
})

test('a server that refuses the replay gets no other request', async () => {
  await using store = await open({ reconnectMs: 300 })
  await store.write?.(0, [sectors(1, 1)])
  await server.kill()
  server.behaviour = () => ({
    onRequest: ({ type, cookie }, answer, socket) =>
      socket.write(type === WRITE ? simpleReply(cookie, 28) : answer()),
  })
  await server.start()
  await expect(store.flush?.()).rejects.toMatchObject({
    message: expect.stringMatching(/no answer within 300 ms: .*write of 512 bytes at 0: ENOSPC/),
    details: { errno: 'ETIMEDOUT' },
  })
  expect([sent(FLUSH), reconnections()]).toEqual([0, []])
  server.behaviour = () => ({})
  server.cut()
  await store.flush?.()
  expect(server.durable[0]).toBe(1)
})

test('without flush nothing is logged', async () => {
  server.flags &= ~NBD_TRANSMISSION.SEND_FLUSH
  await using store = await open()
  await store.write?.(0, [sectors(1, 1)])
  server.cut()
  await until(() => reconnections().length === 1)
  expect([reconnections()[0], sent(WRITE)]).toEqual([{ kind: 'reconnected', replayed: 0 }, 1])
})

test('if one of several connections is lost, the replay waits for the requests of the others, and runs on the new connection', async () => {
  let holding = false
  const held = hold(({ connection }) => holding && connection < 2)
  await using store = await open({ connections: 2, reconnectMs: 0 })
  while (!server.requests.some(({ connection }) => connection === 1)) {
    await Promise.all([store.read(0, [sectors(1)]), store.read(1, [sectors(1)])])
  }
  await store.write?.(0, [sectors(1, 1)])
  holding = true
  const calls = [store.read(8, [sectors(1)]), store.write?.(0, [sectors(1, 2)])]
  await until(() => held.length === 2)
  server.requests.length = 0
  server.cut(0)
  await until(() => server.connections === 3)
  await rest()
  calls.push(store.read(9, [sectors(1)]))
  await rest()
  const seen = (): number[][] =>
    server.requests.splice(0).map(({ connection, type }) => [connection, type])
  expect(seen()).toEqual([[1, READ]]) // the read's connection was cut before the answer
  holding = false
  for (const answer of held) answer()
  await Promise.all(calls)
  expect(seen()).toEqual([
    [2, WRITE],
    [2, READ],
  ])
  expect(server.bytes[0]).toBe(2)
})

describe('while a new connection waits for requests in flight on another', () => {
  /**
   * Opens a store of two connections: the first is cut, the second has a request in flight, so that
   * the first one's replacement has to wait for it.
   */
  async function busy(
    o: NbdStoreOptions = {},
  ): Promise<{ store: NbdStore; release: () => void; calls: unknown[] }> {
    let holding = false
    const held = hold(({ connection }) => holding && connection < 2)
    const store = await open({ connections: 2, ...o })
    while (!server.requests.some(({ connection }) => connection === 1)) {
      await Promise.all([store.read(0, [sectors(1)]), store.read(1, [sectors(1)])])
    }
    await store.write?.(0, [sectors(1, 1)])
    holding = true
    const calls = [store.read(8, [sectors(1)]), store.read(9, [sectors(1)])]
    await until(() => held.length === 2)
    server.cut(0)
    await until(() => server.connections === 3)
    await rest()
    const release = (): void => {
      holding = false
      for (const answer of held) answer()
    }
    return { store, release, calls }
  }

  test('it may be lost itself', async () => {
    const { store, release, calls } = await busy()
    server.cut(2)
    await rest()
    release()
    await Promise.all([...calls, store.flush?.()])
    await store.close()
    expect(server.durable[0]).toBe(1)
  })

  test('if that connection is lost too, waiting requests keep their time', async () => {
    const { store, calls } = await busy({ reconnectMs: 100 })
    calls.push(store.read(3, [sectors(1)]))
    await Promise.all([
      server.stop(),
      ...calls.map((call) =>
        expect(call).rejects.toMatchObject({ details: { errno: 'ETIMEDOUT' } }),
      ),
    ])
    await expect(store.read(4, [sectors(1)])).rejects.toMatchObject({
      details: { errno: 'ETIMEDOUT' },
    }) // this read was never sent on any connection
    await store.close()
  })
})

describe('the log is bounded', () => {
  beforeEach(async () => {
    await server.stop()
    server = await TestNbdServer.listen((40 * MIB) / 512)
  })

  const writes = (store: NbdStore, count: number): Promise<PromiseSettledResult<void>[]> =>
    Promise.allSettled(
      Array.from(
        { length: count },
        async (_, i) =>
          void (await store.write?.((i * MIB) / 512, [new Uint8Array(MIB).fill(i + 1)])),
      ),
    )

  test('the log flushes at 16 MiB by itself, and at 32 MiB writes wait for that', async () => {
    let holding = true
    const held = hold(({ type }) => holding && type === FLUSH)
    await using store = await open()
    const all = writes(store, 40)
    await until(() => sent(WRITE) === 32)
    await rest()
    expect([sent(WRITE), sent(FLUSH)]).toEqual([32, 1])
    holding = false
    held[0]?.()
    expect((await all).filter(({ status }) => status === 'rejected')).toEqual([])
    await restart()
    for (const at of [0, 20, 39]) {
      const got = new Uint8Array(MIB)
      await store.read((at * MIB) / 512, [got])
      expect([got[0], got[MIB - 1]]).toEqual([at + 1, at + 1])
    }
  })

  test('if that flush is refused, so are the writes that wait and, once, the next flush', async () => {
    let refuses = true
    server.behaviour = () => ({
      onRequest: ({ type, cookie }, answer, socket) =>
        socket.write(type === FLUSH && refuses ? simpleReply(cookie, 5) : answer()),
    })
    await using store = await open()
    const results = await writes(store, 40)
    expect(
      results.some(
        (result) =>
          result.status === 'rejected' && /flush of 0 bytes at 0: EIO/.test(String(result.reason)),
      ),
    ).toBe(true)
    refuses = false
    await expect(store.flush?.()).rejects.toMatchObject({ details: { errno: 'EIO' } })
    await store.flush?.()
    expect(server.durable[0]).toBe(1)
  })

  test('if a replay follows the refused flush, no error remains', async () => {
    let refuses = true
    server.behaviour = () => ({
      onRequest: ({ type, cookie }, answer, socket) =>
        socket.write(type === FLUSH && refuses ? simpleReply(cookie, 5) : answer()),
    })
    await using store = await open()
    await writes(store, 20)
    await until(() => sent(FLUSH) > 0)
    await rest()
    refuses = false
    await restart()
    await store.flush?.()
    expect([server.durable[0], server.durable[20 * MIB - 1]]).toEqual([1, 20])
  })

  test.each([
    ['a flush', FLUSH, 32],
    ['writes', WRITE, 0],
  ])(
    'close while the server is away with %s: what waits for room fails too',
    async (_, type, answered) => {
      const held = hold((request) => request.type === type)
      const store = await open()
      const all = writes(store, 40)
      await until(() => held.length > 0 && sent(WRITE) === 32)
      await rest()
      await server.stop()
      await until(() => events.length > 0)
      await store.close()
      expect((await all).map(({ status }) => status === 'rejected').indexOf(true)).toBe(answered)
    },
  )
})

test('close during a replay does not wait for a silent server', async () => {
  const store = await open()
  await store.write?.(0, [sectors(1, 1)])
  await server.kill()
  const held = hold(() => true)
  await server.start()
  await until(() => held.length === 1)
  await store.close()
  await until(() => server.openConnections === 0)
  expect(reconnections()).toEqual([])
})
