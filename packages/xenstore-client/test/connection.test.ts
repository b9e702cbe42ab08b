import { XenstoreError } from '@xenkit/hypervisor'
import { XS } from '@xenkit/wire'
import { beforeEach, describe, expect, test } from 'vitest'
import { openXenstore, type XenstoreClient, XenstoreClosedError } from '../src/index.ts'
import { ScriptedXenstored } from './support/scripted.ts'
import { Store } from './support/store.ts'

let xenstored: ScriptedXenstored
let client: XenstoreClient

beforeEach(async () => {
  xenstored = new ScriptedXenstored()
  client = await openXenstore(xenstored, { reconnectMs: 0 })
})

const tick = (): Promise<void> => Promise.resolve()

describe('pipelining', () => {
  test('the requests of one tick leave in one write, in order', async () => {
    const replies = Promise.allSettled([
      client.read('/a'),
      client.write('/b', 'x'),
      client.list('/c'),
    ])
    expect(xenstored.writes).toEqual([])
    await tick()
    expect(xenstored.writes).toEqual([3])
    expect(xenstored.sent.map(({ type, payload }) => [type, payload])).toEqual([
      [XS.READ, '/a|'],
      [XS.WRITE, '/b|x'],
      [XS.DIRECTORY, '/c|'],
    ])
    client.close()
    await replies
  })

  test('replies are matched by id, in any order', async () => {
    const values = Promise.all(['/a', '/b', '/c'].map((path) => client.read(path)))
    await tick()
    for (const { reqId, payload } of xenstored.sent.toReversed()) {
      xenstored.send(XS.READ, reqId, `value of ${payload}`)
    }
    expect(await values).toEqual(['value of /a\0', 'value of /b\0', 'value of /c\0'])
  })

  test('an error reply rejects its own request alone', async () => {
    const values = Promise.allSettled([client.read('/a'), client.read('/b')])
    await tick()
    xenstored.send(XS.ERROR, xenstored.sent[0]?.reqId ?? 0, 'EBUSY|')
    xenstored.send(XS.READ, xenstored.sent[1]?.reqId ?? 0, 'x')
    expect(await values).toEqual([
      { status: 'rejected', reason: expect.any(XenstoreError) },
      { status: 'fulfilled', value: 'x' },
    ])
  })
})

/** Starts one call of each kind, of which none gets an answer. */
async function underWay(): Promise<{ ended: Promise<PromiseSettledResult<unknown>[]> }> {
  const watch = client.watch('/w')
  const ended = Promise.allSettled([
    client.read('/a'),
    client.write('/b', ''),
    client.wait(async (view) => view.readOptional('/c')),
    client.transaction(async () => {}),
    watch.next(),
  ])
  await tick()
  await tick()
  const set = xenstored.sent.find(({ payload }) => payload.startsWith('/w|'))
  xenstored.send(XS.WATCH, set?.reqId ?? 0, 'OK|')
  return { ended }
}

describe('the end of the connection', () => {
  test.each([
    ['the stream ends', () => xenstored.drop('gone'), 'gone'],
    [
      'garbage comes',
      () => xenstored.sendBytes(new Uint8Array(16).fill(0xff)),
      '"len" expected 0..4096',
    ],
    [
      'an answer to nothing comes',
      () => xenstored.send(XS.READ, 4711, ''),
      'no request has the id 4711',
    ],
    [
      'an answer of another type comes',
      () =>
        xenstored.send(
          XS.RM,
          xenstored.sent.find(({ type }) => type === XS.READ)?.reqId ?? 0,
          'OK|',
        ),
      'READ was answered with RM',
    ],
  ])('rejects everything with one error when %s', async (_, lose, reason) => {
    const { ended } = await underWay()
    lose()
    const results = await ended
    const [first] = results
    expect(first).toMatchObject({
      status: 'rejected',
      reason: {
        code: 'ERR_XEN_XENSTORE_CLOSED',
        lost: true,
        message: expect.stringContaining(reason),
      },
    })
    expect(
      results.map((result) => (result.status === 'rejected' ? result.reason : result.value)),
    ).toEqual(results.map(() => (first?.status === 'rejected' ? first.reason : undefined)))
    await expect(client.read('/a')).rejects.toThrow('the connection to xenstored was lost')
    expect(xenstored.closed).toBe(true)
  })

  test('closing rejects requests in flight and ends watches', async () => {
    const { ended } = await underWay()
    client.close()
    client.close()
    const results = await ended
    for (const result of results.slice(0, 4)) {
      expect(result).toMatchObject({ status: 'rejected', reason: expect.any(XenstoreClosedError) })
    }
    expect(results[4]).toEqual({ status: 'fulfilled', value: { done: true, value: undefined } })
    await expect(client.read('/a')).rejects.toMatchObject({
      message: 'the xenstore client was closed',
      lost: false,
    })
    expect(
      await client
        .watch('/w')
        .next()
        .catch((error: unknown) => error),
    ).toBeInstanceOf(XenstoreClosedError)
  })

  test('nothing is sent after it', async () => {
    const read = client.read('/a')
    client.close()
    await expect(read).rejects.toThrow('closed')
    expect(xenstored.sent).toEqual([])
  })

  test("a released domain's connection ends", async () => {
    using store = new Store()
    await store.introduce(5)
    const guest = await store.open(5, { reconnectMs: 0 })
    const watch = guest.watch('x')
    await watch.next()
    const [next, read] = [watch.next(), guest.wait(async (view) => view.readOptional('x'))]
    const both = Promise.allSettled([next, read])
    await guest.exists('x')
    store.xenstored.releaseDomain(5)
    for (const result of await both) {
      expect(result).toMatchObject({
        status: 'rejected',
        reason: {
          message: 'the connection to xenstored was lost: domain 5 was released from xenstored',
        },
      })
    }
    expect(await watch.next()).toEqual({ done: true, value: undefined })
    await expect(store.open(5)).rejects.toMatchObject({ code: 'ERR_XEN_NOT_AVAILABLE' })
  })
})
