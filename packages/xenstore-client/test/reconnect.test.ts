/** The client while xenstored goes away and comes back: what is repeated, and what is lost. */
import { HypervisorClosedError, type XenstorePort } from '@xenkit/hypervisor'
import { XS, XsPacker, XsParser } from '@xenkit/wire'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  openXenstore,
  type Outage,
  type XenstoreClient,
  XenstoreClosedError,
} from '../src/index.ts'
import { RestartingXenstored } from './support/restarting.ts'
import { ScriptedXenstored } from './support/scripted.ts'

let server: RestartingXenstored
let client: XenstoreClient
let outages: Outage[]

beforeEach(async () => {
  server = new RestartingXenstored()
  outages = []
  client = await openXenstore(server, { onReconnect: (outage) => outages.push(outage) })
})

afterEach(() => client.close())

describe('after a loss', () => {
  test('onReconnect is called once, and the client continues', async () => {
    await client.write('/a', '1')
    server.drop()
    expect(await client.read('/a')).toBe('1')
    expect(outages).toEqual([
      {
        reason: expect.objectContaining({ message: 'xenstored went away' }),
        milliseconds: expect.any(Number),
      },
    ])
  })

  test('requests made while xenstored is away are answered in order when it is back', async () => {
    server.drop({ away: true })
    const answers = Promise.all([
      client.write('/a', '1'),
      client.read('/a'),
      client.write('/a', '2'),
      client.read('/a'),
    ])
    await server.attempted(4)
    server.comeBack()
    expect(await answers).toEqual([undefined, '1', undefined, '2'])
    expect(server.refused).toBeGreaterThanOrEqual(3)
    expect(outages.length).toBe(1)
  })

  test('reads in flight are answered', async () => {
    await client.write('/a', '1')
    const reads = Promise.all([
      client.read('/a'),
      client.list('/'),
      client.getPerms('/a'),
      client.getDomainPath(3),
      client.isDomainIntroduced(3),
    ])
    await Promise.resolve()
    server.drop()
    expect(await reads).toEqual([
      '1',
      ['tool', 'a'],
      { owner: 0, access: 'none', acl: [] },
      '/local/domain/3',
      false,
    ])
  })

  test('a write in flight rejects, because its outcome is unknown', async () => {
    const writes = Promise.allSettled([
      client.write('/a', '1'),
      client.rm('/b'),
      client.mkdir('/c'),
      client.setPerms('/tool', { owner: 0, access: 'none', acl: [] }),
    ])
    await Promise.resolve()
    server.drop()
    for (const result of await writes) {
      expect(result).toMatchObject({
        status: 'rejected',
        reason: {
          code: 'ERR_XEN_XENSTORE_CLOSED',
          lost: true,
          message: expect.stringMatching(
            /^xenstore [A-Z_]+ "\/.*": the connection was lost .* may or may not have been done$/,
          ),
        },
      })
    }
  })

  test('watches fire once, and then on changes', async () => {
    const watch = client.watch('/w')
    const other = client.watch('/w')
    const first = [(await watch.next()).value, (await other.next()).value]
    server.drop({ newStore: true })
    expect([...first, (await watch.next()).value, (await other.next()).value]).toEqual([
      '/w',
      '/w',
      '/w',
      '/w',
    ])
    const next = watch.next()
    await client.write('/w/x', '1')
    expect((await next).value).toBe('/w/x')
    expect(server.xenstored.openResources().filter((line) => line.includes('watch')).length).toBe(2)
    await Promise.all([watch.return?.(), other.return?.()])
    expect(server.xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
  })

  test('a watch that is started or ended meanwhile ends up started or ended', async () => {
    const ended = client.watch('/ended')
    await ended.next()
    server.drop({ away: true })
    await ended.return?.()
    const begun = client.watch('/begun')
    const first = begun.next()
    server.comeBack()
    expect(await first).toEqual({ done: false, value: '/begun' })
    expect(server.xenstored.openResources()).toEqual([
      'xenstore connection of domain 0',
      expect.stringContaining('watch "/begun"'),
    ])
    await begun.return?.()
  })

  test('`wait` runs its body again', async () => {
    const value = client.wait(
      async (view) => (await view.readOptional('/ready')) === '1' || undefined,
    )
    await client.exists('/')
    server.drop({ away: true, newStore: true })
    using other = await openXenstore({
      connect: async (receiver) => server.xenstored.connect(0, receiver),
    })
    await other.write('/ready', '1')
    server.comeBack()
    expect(await value).toBe(true)
  })

  test('a transaction is run again', async () => {
    const runs: string[] = []
    await client.write('/n', '1')
    await client.transaction(async (view) => {
      const n = await view.read('/n')
      runs.push(n)
      if (runs.length === 1) {
        server.drop()
        await client.write('/n', '10')
      }
      await view.write('/n', String(Number(n) + 1))
    })
    expect(runs).toEqual(['1', '10'])
    expect(await client.read('/n')).toBe('11')
    expect(server.xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
  })

  test('within a transaction the error is EAGAIN', async () => {
    let error: unknown
    await client.transaction(async (view) => {
      if (error !== undefined) return
      const read = view.read('/n')
      await Promise.resolve()
      server.drop()
      error = await read.catch((reason: unknown) => reason)
    })
    expect(error).toMatchObject({
      errno: 'EAGAIN',
      message: 'xenstore READ "/n": EAGAIN (the transaction ended with the connection)',
    })
  })

  test('a commit in flight rejects, because its outcome is unknown', async () => {
    const script = new ScriptedXenstored()
    const scripted = await openXenstore(script)
    const done = scripted.transaction(async () => 'result')
    while (script.sent.length < 1) await Promise.resolve()
    script.send(XS.TRANSACTION_START, script.sent[0]?.reqId ?? 0, '7|')
    while (script.sent.length < 2) await Promise.resolve()
    expect(script.sent[1]).toMatchObject({ type: XS.TRANSACTION_END, txId: 7, payload: 'T|' })
    script.drop('gone')
    await expect(done).rejects.toThrow('may or may not have been done')
    scripted.close()
  })
})

describe('a malformed reply ends the connection, not the client', () => {
  test.each<[string, (xenstored: ScriptedXenstored, reqId: number) => void]>([
    ['to a request that was not made', (script, reqId) => script.send(XS.READ, reqId + 1, 'x')],
    ['of another type than the request', (script, reqId) => script.send(XS.RM, reqId, 'OK|')],
    ['without a header that can be', (script) => script.sendBytes(new Uint8Array(16).fill(0xff))],
  ])('%s', async (_, answer) => {
    const xenstored = new ScriptedXenstored()
    const scripted = await openXenstore(xenstored)
    const read = scripted.read('/a')
    await vi.waitFor(() => expect(xenstored.sent).toHaveLength(1))
    answer(xenstored, xenstored.sent[0]?.reqId ?? 0)
    await vi.waitFor(() => expect(xenstored.sent).toHaveLength(2))
    expect(xenstored.closed).toBe(true)
    expect(xenstored.sent[1]).toMatchObject({ type: XS.READ, payload: '/a|' })
    xenstored.send(XS.READ, xenstored.sent[1]?.reqId ?? 0, 'sense')
    expect(await read).toBe('sense')
    scripted.close()
  })
})

describe('a xenstored that answers and goes away, again and again', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  /**
   * Creates a xenstored that answers one request per connection, after `afterMs`, and then ends it.
   */
  function answersOnce({ afterMs }: { readonly afterMs: number }) {
    let connections = 0
    const port: XenstorePort = {
      async connect(receiver) {
        connections++
        const parser = new XsParser((type, reqId) => {
          setTimeout(() => {
            const packer = new XsPacker()
            packer.append(type, reqId, 0, 'x')
            receiver.data(packer.take())
            receiver.closed(new Error('gone'))
          }, afterMs)
        })
        return { write: (bytes) => parser.push(bytes), close: () => {} }
      },
    }
    return { port, connections: () => connections }
  }

  const readForEver = async (port: XenstorePort): Promise<void> => {
    using patient = await openXenstore(port)
    for (;;) await patient.read('/a')
  }

  test('is tried at growing intervals, and in the end no more', async () => {
    const { port, connections } = answersOnce({ afterMs: 1 })
    const reading = readForEver(port).catch((error: unknown) => error)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(connections()).toBeLessThan(15) // delays of 1, 1, 2, 4, 8 ... 1000 ms
    await vi.advanceTimersByTimeAsync(29_000)
    expect(await reading).toMatchObject({ message: expect.stringMatching(/was lost: gone$/) })
    expect(connections()).toBeLessThan(45)
  })

  test('is tried again without delay after a connection that lasted', async () => {
    const { port, connections } = answersOnce({ afterMs: 1_000 })
    const reading = readForEver(port).catch((error: unknown) => error)
    await vi.advanceTimersByTimeAsync(100_000)
    expect(connections()).toBe(101)
    expect(await Promise.race([reading, 'reading'])).toBe('reading')
  })
})

describe('a permanent loss', () => {
  test('everything ends after reconnectMs', async () => {
    const patient = await openXenstore(server, { reconnectMs: 20 })
    const watch = patient.watch('/w')
    await watch.next()
    server.drop({ away: true })
    const ends = await Promise.allSettled([
      patient.read('/a'),
      patient.write('/a', ''),
      patient.transaction(async () => {}),
      watch.next(),
      patient.wait(async (view) => view.readOptional('/a')),
    ])
    for (const end of ends) {
      expect(end).toMatchObject({
        status: 'rejected',
        reason: {
          lost: true,
          message: 'the connection to xenstored was lost: xenstored went away',
        },
      })
    }
    await expect(patient.read('/a')).rejects.toBeInstanceOf(XenstoreClosedError)
    await expect(patient.watch('/w').next()).rejects.toBeInstanceOf(XenstoreClosedError)
    server.comeBack()
  })

  test('a xenstored that accepts and drops connections counts as lost too', async () => {
    let open = 0
    const port: XenstorePort = {
      async connect(receiver) {
        if (open++ > 0) setImmediate(() => receiver.closed(new Error('no')))
        else setImmediate(() => receiver.closed(new Error('gone')))
        return { write: () => {}, close: () => {} }
      },
    }
    const patient = await openXenstore(port, { reconnectMs: 30 })
    await expect(patient.read('/a')).rejects.toThrow('the connection to xenstored was lost: gone')
    expect(open).toBeGreaterThan(2)
  })

  test('a closed hypervisor ends everything at once', async () => {
    let lose = (): void => {}
    const port: XenstorePort = {
      async connect(receiver) {
        if (server.attempts++ > 1) throw new HypervisorClosedError('it is over')
        lose = () => receiver.closed(new Error('gone'))
        return { write: () => {}, close: () => {} }
      },
    }
    const doomed = await openXenstore(port)
    const read = doomed.read('/a')
    lose()
    await expect(read).rejects.toThrow('the connection to xenstored was lost: gone')
  })

  test('closing meanwhile ends it: no connection is left', async () => {
    server.drop({ away: true })
    const read = client.read('/a')
    const { attempts } = server
    await server.attempted(attempts + 2)
    client.close()
    server.comeBack()
    await expect(read).rejects.toThrow('the xenstore client was closed')
    expect(server.xenstored.openResources()).toEqual([])
  })
})

describe('resetWatches', () => {
  test("removes an earlier client's watches, and keeps its own", async () => {
    const watch = client.watch('/w')
    await watch.next()
    const runs: number[] = []
    await client.transaction(async (view) => {
      runs.push(1)
      if (runs.length === 1) await client.resetWatches()
      await view.write('/t', '1')
    })
    expect(runs).toEqual([1, 1])
    expect((await watch.next()).value).toBe('/w')
    expect(server.xenstored.openResources().filter((line) => line.includes(': '))).toEqual([
      expect.stringContaining('watch "/w"'),
    ])
    await watch.return?.()
  })

  test('keeps watches and the open transaction if xenstored refuses', async () => {
    const xenstored = new ScriptedXenstored()
    const scripted = await openXenstore(xenstored)
    let answered = 0
    /** Waits for the client's next request and answers it. */
    const answer = async (type: number, payload: string): Promise<void> => {
      await vi.waitFor(() => expect(xenstored.sent.length).toBeGreaterThan(answered))
      xenstored.send(type, xenstored.sent[answered++]?.reqId ?? 0, payload)
    }
    const watch = scripted.watch('/w')
    const first = watch.next()
    await answer(XS.WATCH, 'OK|')
    const transaction = scripted.transaction(async (view) => {
      await expect(scripted.resetWatches()).rejects.toMatchObject({ errno: 'EACCES' })
      await view.write('/t', '1')
    })
    await answer(XS.TRANSACTION_START, '7|')
    await answer(XS.ERROR, 'EACCES|')
    await answer(XS.WRITE, 'OK|')
    await answer(XS.TRANSACTION_END, 'OK|')
    await transaction
    const { WATCH, TRANSACTION_START, RESET_WATCHES, WRITE, TRANSACTION_END } = XS
    const sent = xenstored.sent.map(({ type }) => type)
    expect(sent).toEqual([WATCH, TRANSACTION_START, RESET_WATCHES, WRITE, TRANSACTION_END])
    scripted.close()
    expect((await first).done).toBe(true)
  })

  test('keeps a transaction that is started while the reset is in flight', async () => {
    let runs = 0
    const reset = client.resetWatches()
    await client.transaction(async (view) => {
      runs++
      await reset
      await view.write('/t', '1')
    })
    expect(runs).toBe(1)
    expect(server.xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
  })
})

test('for any order of events, every call is answered and the last value is read', async () => {
  const action = fc.constantFrom('drop', 'restart', 'read', 'write', 'count', 'watch', 'turn')
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
      const flaky = new RestartingXenstored()
      const flakyClient = await openXenstore(flaky)
      const under: Promise<PromiseSettledResult<unknown>[]>[] = []
      const expectAnswer = (call: Promise<unknown>): void =>
        void under.push(Promise.allSettled([call]))
      const signal = new AbortController()
      for (const what of actions) {
        if (what === 'drop') flaky.drop()
        else if (what === 'restart') flaky.drop({ newStore: true })
        else if (what === 'read') expectAnswer(flakyClient.readOptional('/n'))
        else if (what === 'write') expectAnswer(flakyClient.write('/n', '1'))
        else if (what === 'count') {
          expectAnswer(
            flakyClient.transaction(async (view) =>
              view.write('/n', String(Number((await view.readOptional('/n')) ?? '0') + 1)),
            ),
          )
        } else if (what === 'watch') {
          expectAnswer(
            (async () => {
              for await (const path of flakyClient.watch('/n', { signal: signal.signal })) {
                expect(path).toBe('/n')
              }
            })(),
          )
        } else await new Promise((resolve) => setImmediate(resolve))
      }
      await flakyClient.exists('/')
      signal.abort()
      for (const result of (await Promise.all(under)).flat()) {
        if (result.status === 'rejected') {
          expect(result.reason).toMatchObject({
            code: 'ERR_XEN_XENSTORE_CLOSED',
            message: expect.stringContaining('may or may not have been done'),
          })
        }
      }
      await flakyClient.write('/n', 'last')
      expect(await flakyClient.read('/n')).toBe('last')
      expect(flaky.xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
      flakyClient.close()
    }),
    { numRuns: 300 },
  )
})
