/**
 * A toolstack's requests: the message that each method sends, and the result that it makes of the
 * reply.
 */
import { XS } from '@xenkit/wire'
import { beforeEach, describe, expect, test } from 'vitest'
import { openXenstore, type XenstoreClient } from '../src/index.ts'
import { ScriptedXenstored } from './support/scripted.ts'

let xenstored: ScriptedXenstored
let client: XenstoreClient

beforeEach(async () => {
  xenstored = new ScriptedXenstored()
  client = await openXenstore(xenstored)
})

/** Starts a call and answers its one request with `answer`; expects a request of this type. */
async function answered<T>(call: Promise<T>, type: number, answer: string): Promise<T> {
  await Promise.resolve()
  xenstored.send(type, xenstored.sent[0]?.reqId ?? 0, answer)
  return call
}

const calls: [
  name: string,
  call: () => Promise<unknown>,
  type: number,
  payload: string,
  answer: string,
  result: unknown,
][] = [
  [
    'getDomainPath',
    () => client.getDomainPath(5),
    XS.GET_DOMAIN_PATH,
    '5|',
    '/local/domain/5|',
    '/local/domain/5',
  ],
  [
    'isDomainIntroduced',
    () => client.isDomainIntroduced(5),
    XS.IS_DOMAIN_INTRODUCED,
    '5|',
    'T|',
    true,
  ],
  [
    'isDomainIntroduced',
    () => client.isDomainIntroduced(5),
    XS.IS_DOMAIN_INTRODUCED,
    '5|',
    'F|',
    false,
  ],
  [
    'introduceDomain',
    () => client.introduceDomain({ domid: 5, gfn: 0x7fff_ffff, port: 3 }),
    XS.INTRODUCE,
    '5|2147483647|3|',
    'OK|',
    undefined,
  ],
  ['releaseDomain', () => client.releaseDomain(5), XS.RELEASE, '5|', 'OK|', undefined],
  ['resumeDomain', () => client.resumeDomain(5), XS.RESUME, '5|', 'OK|', undefined],
  [
    'setTarget',
    () => client.setTarget({ domid: 6, target: 5 }),
    XS.SET_TARGET,
    '6|5|',
    'OK|',
    undefined,
  ],
  ['restrict', () => client.restrict(5), XS.RESTRICT, '5|', 'OK|', undefined],
  ['getFeatures of the own domain', () => client.getFeatures(), XS.GET_FEATURE, '', '7|', 7],
  [
    'getFeatures of another',
    () => client.getFeatures(5),
    XS.GET_FEATURE,
    '5|',
    '4294967295|',
    4_294_967_295,
  ],
  [
    'setFeatures',
    () => client.setFeatures({ domid: 5, features: 3 }),
    XS.SET_FEATURE,
    '5|3|',
    'OK|',
    undefined,
  ],
  [
    'listQuotas',
    () => client.listQuotas(),
    XS.GET_QUOTA,
    '',
    'nodes watches|',
    ['nodes', 'watches'],
  ],
  ['listQuotas without any', () => client.listQuotas(), XS.GET_QUOTA, '', '|', []],
  [
    'getQuota of all',
    () => client.getQuota({ quota: 'nodes' }),
    XS.GET_QUOTA,
    'nodes|',
    '1000|',
    1000,
  ],
  [
    'getQuota of one',
    () => client.getQuota({ quota: 'nodes', domid: 5 }),
    XS.GET_QUOTA,
    '5|nodes|',
    '0|',
    0,
  ],
  [
    'setQuota of all',
    () => client.setQuota({ quota: 'nodes', value: 9 }),
    XS.SET_QUOTA,
    'nodes|9|',
    'OK|',
    undefined,
  ],
  [
    'setQuota of one',
    () => client.setQuota({ quota: 'nodes', value: 9, domid: 5 }),
    XS.SET_QUOTA,
    '5|nodes|9|',
    'OK|',
    undefined,
  ],
  ['control', () => client.control('log', 'on'), XS.CONTROL, 'log|on|', 'OK|', 'OK'],
  [
    'control with several lines',
    () => client.control('help'),
    XS.CONTROL,
    'help|',
    'check|log|',
    'check\nlog',
  ],
]

test.each(calls)('%s', async (_, call, type, payload, answer, result) => {
  expect(await answered(call(), type, answer)).toEqual(result)
  expect(xenstored.sent).toEqual([expect.objectContaining({ type, payload, txId: 0 })])
})

test.each<[string, () => Promise<unknown>, string]>([
  ['a domid that no domain has', () => client.releaseDomain(0x7ff0), '"domid" expected'],
  [
    'a frame beyond 31 bits',
    () => client.introduceDomain({ domid: 5, gfn: 2 ** 31, port: 3 }),
    '"gfn" expected',
  ],
  ['no port', () => client.introduceDomain({ domid: 5, gfn: 1, port: 0 }), '"port" expected'],
  [
    'a target that no domain is',
    () => client.setTarget({ domid: 5, target: -1 }),
    '"target" expected',
  ],
  [
    'features beyond 32 bits',
    () => client.setFeatures({ domid: 5, features: 2 ** 32 }),
    '"features" expected',
  ],
  ['a negative quota', () => client.setQuota({ quota: 'nodes', value: -1 }), '"value" expected'],
  [
    'a quota with a NUL',
    () => client.getQuota({ quota: 'no\0des' }),
    'GET_QUOTA expected strings without NUL, got "no\\u0000des"',
  ],
  [
    'a command too long for a message',
    () => client.control('x'.repeat(4096)),
    'payload of CONTROL expected 0..4096 bytes',
  ],
])('%s is refused before anything is sent', async (_, call, text) => {
  await expect(call()).rejects.toThrow(text)
  await expect(call()).rejects.toBeInstanceOf(RangeError)
  expect(xenstored.sent).toEqual([])
})

test('an operation that xenstored lacks is an error that names the operation', async () => {
  await expect(answered(client.getFeatures(), XS.ERROR, 'ENOSYS|')).rejects.toThrow(
    'xenstore GET_FEATURE "": ENOSYS (this xenstored does not know the operation)',
  )
})

test.each(['', 'seven', '-1', '4294967296', '1e3'])('%j is not a number', async (answer) => {
  await expect(answered(client.getFeatures(), XS.GET_FEATURE, `${answer}|`)).rejects.toMatchObject({
    errno: 'EIO',
  })
})

describe('a directory in parts', () => {
  const parts = async (
    answers: readonly [type: number, answer: string][],
  ): Promise<{ names: Promise<string[]>; asked: string[] }> => {
    const names = client.list('/many')
    names.catch(() => {})
    for (const [i, [type, answer]] of answers.entries()) {
      while (xenstored.sent.length <= i) await Promise.resolve()
      xenstored.send(type, xenstored.sent[i]?.reqId ?? 0, answer)
    }
    return { names, asked: xenstored.sent.map(({ payload }) => payload) }
  }

  test('is read from the end of the previous part on, up to an empty name', async () => {
    const { names, asked } = await parts([
      [XS.ERROR, 'E2BIG|'],
      [XS.DIRECTORY_PART, '17|aa|bbb|'],
      [XS.DIRECTORY_PART, '17|c|'],
      [XS.DIRECTORY_PART, '17|dd||'],
    ])
    expect(await names).toEqual(['aa', 'bbb', 'c', 'dd'])
    expect(asked).toEqual(['/many|', '/many|0|', '/many|7|', '/many|9|'])
  })

  test('is read again when it has changed meanwhile', async () => {
    const { names, asked } = await parts([
      [XS.ERROR, 'E2BIG|'],
      [XS.DIRECTORY_PART, '17|aa|'],
      [XS.DIRECTORY_PART, '18|bb|'],
      [XS.DIRECTORY_PART, '18|bb||'],
    ])
    expect(await names).toEqual(['bb'])
    expect(asked.at(-1)).toBe('/many|0|')
  })

  test('rejects when it changes all the time', async () => {
    const changing = Array.from({ length: 20 }, (_, i): [number, string][] => [
      [XS.DIRECTORY_PART, `${2 * i}|a|`],
      [XS.DIRECTORY_PART, `${2 * i + 1}|a|`],
    ]).flat()
    const { names } = await parts([[XS.ERROR, 'E2BIG|'], ...changing])
    await expect(names).rejects.toMatchObject({
      errno: 'EAGAIN',
      message: expect.stringContaining('"/many"'),
    })
  })

  test.each(['', '17|'])('%j is rejected as a part', async (answer) => {
    const { names } = await parts([
      [XS.ERROR, 'E2BIG|'],
      [XS.DIRECTORY_PART, answer],
    ])
    await expect(names).rejects.toMatchObject({ errno: 'EIO' })
  })
})

describe('the depth of a watch', () => {
  /**
   * Answers the client's WATCH request, which is refused first if `known` is false. Then sends the
   * events, and returns the paths that the watch yields.
   */
  async function watching(
    path: string,
    o: { readonly depth: number; readonly known: boolean },
    events: readonly string[],
  ): Promise<string[]> {
    const watch = client.watch(path, { depth: o.depth })
    const first = watch.next()
    await Promise.resolve()
    const [request] = xenstored.sent
    const [, token = '', depth] = request?.payload.split('|') ?? []
    expect(depth).toBe(String(o.depth))
    xenstored.send(o.known ? XS.WATCH : XS.ERROR, request?.reqId ?? 0, o.known ? 'OK|' : 'EINVAL|')
    if (!o.known) {
      while (xenstored.sent.length < 2) await Promise.resolve()
      expect(xenstored.sent[1]?.payload).toBe(`${path}|${token}|`)
      xenstored.send(XS.WATCH, xenstored.sent[1]?.reqId ?? 0, 'OK|')
    }
    for (const event of events) xenstored.send(XS.WATCH_EVENT, 0, `${event}|${token}|`)
    const heard = [(await first).value]
    const end = watch.return?.()
    client.close()
    await end
    for await (const more of watch) heard.push(more)
    return heard.filter((one) => one !== undefined)
  }

  test('is passed to a xenstored that supports it', async () => {
    expect(await watching('/a', { depth: 0, known: true }, ['/a/b'])).toEqual(['/a/b'])
  })

  test.each([
    ['/a', 0, ['/a/b', '/a'], '/a'],
    ['/a', 1, ['/a/b/c', '/a/b'], '/a/b'],
    ['/', 1, ['/a/b', '/a'], '/a'],
    ['a', 2, ['a/b/c/d', 'a/b/c'], 'a/b/c'],
  ])('is kept to here for one that does not: %s, %i', async (path, depth, events, heard) => {
    expect(await watching(path, { depth, known: false }, events)).toEqual([heard])
  })

  test("of a special watch can't be emulated", async () => {
    const next = client.watch('@releaseDomain', { depth: 1 }).next()
    await Promise.resolve()
    xenstored.send(XS.ERROR, xenstored.sent[0]?.reqId ?? 0, 'EINVAL|')
    await expect(next).rejects.toThrow(
      'xenstore WATCH "@releaseDomain": ENOSYS (this xenstored supports no depth for watches)',
    )
  })

  test.each([-1, 4097])('%d is out of range', async (depth) => {
    await expect(client.watch('/a', { depth }).next()).rejects.toBeInstanceOf(RangeError)
    expect(xenstored.sent).toEqual([])
  })
})
