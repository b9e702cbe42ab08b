import { XS } from '@xenkit/wire'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openXenstore, type XenstoreClient, type XenstoreView } from '../src/index.ts'
import { RestartingXenstored } from './support/restarting.ts'
import { ScriptedXenstored } from './support/scripted.ts'
import { Store } from './support/store.ts'

let store: Store
let dom0: XenstoreClient
let other: XenstoreClient

beforeEach(async () => {
  store = new Store()
  dom0 = await store.open(0)
  other = await store.open(0)
})

afterEach(() => store[Symbol.dispose]())

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const increment = async (view: XenstoreView): Promise<void> =>
  view.write('/count', String(Number(await view.read('/count')) + 1))

test('takes effect as a whole', async () => {
  await dom0.write('/gone/x', '1')
  const result = await dom0.transaction(async (view) => {
    await view.write('/a', '1')
    await view.mkdir('/b')
    await view.setPerms('/b', { owner: 0, access: 'read', acl: [] })
    await view.rm('/gone')
    expect(
      await Promise.all([
        view.read('/a'),
        view.exists('/gone'),
        other.exists('/a'),
        other.exists('/gone'),
      ]),
    ).toEqual(['1', false, false, true])
    return view.list('/')
  })
  expect(result).toEqual(['tool', 'a', 'b'])
  expect(
    await Promise.all([other.read('/a'), other.exists('/gone'), other.getPerms('/b')]),
  ).toEqual(['1', false, { owner: 0, access: 'read', acl: [] }])
  expect(store.leftOpen).toEqual([])
})

test('a body that throws changes nothing', async () => {
  const failing = dom0.transaction(async (view) => {
    await view.write('/a', '1')
    throw new Error('changed my mind')
  })
  await expect(failing).rejects.toThrow('changed my mind')
  expect(await dom0.exists('/a')).toBe(false)
  expect(store.leftOpen).toEqual([])
})

test('runs again after a conflict, on the new values', async () => {
  await other.write('/n', '1')
  const seen: string[] = []
  await dom0.transaction(async (view) => {
    const n = await view.read('/n')
    seen.push(n)
    if (seen.length < 4) await other.write('/n', String(Number(n) + 10))
    await view.write('/n', String(Number(n) + 1))
  })
  expect(seen).toEqual(['1', '11', '21', '31'])
  expect(await other.read('/n')).toBe('32')
})

// xenstored copies a node into a transaction when the transaction first reads it, so changes by
// others between two reads can make the tree look torn.
test.each([
  { refusal: 'EINVAL', before: undefined, seen: 'a parent before it was there' },
  { refusal: 'EIO', before: '/p', seen: 'a parent before it had that child' },
])('runs again when $refusal shows that it has seen $seen', async ({ before }) => {
  if (before !== undefined) await dom0.mkdir(before)
  let attempts = 0
  await dom0.transaction(async (view) => {
    await view.exists('/p')
    if (++attempts === 1) await other.write('/p/child', '1')
    await view.rm('/p/child')
  })
  expect(attempts).toBe(2)
  expect(await dom0.exists('/p/child')).toBe(false)
  expect(store.leftOpen).toEqual([])
})

test('rejects with that refusal when every attempt ends so', async () => {
  await dom0.mkdir('/p')
  let attempts = 0
  const hopeless = dom0.transaction(async (view) => {
    await view.exists('/p')
    await other.write(`/p/${++attempts}`, '')
    await view.rm(`/p/${attempts}`)
  })
  await expect(hopeless).rejects.toMatchObject({ errno: 'EIO', details: { subject: '/p/40' } })
  expect(store.leftOpen).toEqual([])
})

test('the same errno for another reason is not a conflict', async () => {
  let attempts = 0
  await expect(
    dom0.transaction((view) => {
      attempts++
      return view.rm('/')
    }),
  ).rejects.toMatchObject({ errno: 'EINVAL' })
  expect(attempts).toBe(1)
})

test('many clients that increment one counter lose no increment', async () => {
  await dom0.write('/count', '0')
  const clients = await Promise.all(Array.from({ length: 5 }, () => store.open(0)))
  await Promise.all(
    clients.flatMap((client) => Array.from({ length: 4 }, () => client.transaction(increment))),
  )
  expect(await dom0.read('/count')).toBe('20')
  expect(store.leftOpen).toEqual([])
})

test('one client that increments a counter 700 times at once has no conflict', async () => {
  await dom0.write('/count', '0')
  let runs = 0
  const count = (view: XenstoreView): Promise<void> => {
    runs++
    return increment(view)
  }
  await Promise.all(Array.from({ length: 700 }, () => dom0.transaction(count)))
  expect(await dom0.read('/count')).toBe('700')
  expect(runs).toBe(700)
})

describe('a transaction that xenstored does not know, as after a restore, runs again', () => {
  let restored: RestartingXenstored
  let client: XenstoreClient
  beforeEach(async () => {
    restored = new RestartingXenstored()
    client = await openXenstore(restored)
    await client.write('/n', '1')
  })
  afterEach(() => {
    expect(restored.xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
    client.close()
  })

  test.each<[string, 'before' | 'after', (view: XenstoreView) => Promise<string | undefined>]>([
    ['at its commit', 'after', (view) => view.read('/n')],
    ['when it reads a node', 'before', (view) => view.read('/n')],
    ['when it looks for a node', 'before', (view) => view.readOptional('/n')],
    [
      'when it fails of what it sees',
      'before',
      async (view) => {
        const n = await view.readOptional('/n')
        if (n === undefined) throw new Error('no number')
        return n
      },
    ],
  ])('%s', async (_, when, body) => {
    let runs = 0
    const n = await client.transaction(async (view) => {
      const restores = ++runs === 1
      if (restores && when === 'before') restored.restore()
      const read = await body(view)
      if (restores && when === 'after') restored.restore()
      return read
    })
    expect([n, runs]).toEqual(['1', 2])
  })

  test('not when it fails for a reason of its own', async () => {
    let runs = 0
    const failing = client.transaction(async (view) => {
      runs++
      await view.read('/missing')
    })
    await expect(failing).rejects.toThrow('READ "/missing": ENOENT')
    expect(runs).toBe(1)
  })

  test('also with oxenstored, which answers EIO', async () => {
    const script = new ScriptedXenstored()
    const domain = await openXenstore(script)
    let answered = 0
    const answer = async (type: number, payload: string): Promise<void> => {
      while (script.sent.length <= answered) await turn()
      script.send(type, script.sent[answered++]?.reqId ?? 0, payload)
    }
    const read = domain.transaction((view) => view.read('/n'))
    await answer(XS.TRANSACTION_START, '7|')
    for (const _ of ['/n', 'whether it is known']) await answer(XS.ERROR, 'EIO|')
    await answer(XS.TRANSACTION_START, '1|')
    await answer(XS.READ, '1')
    await answer(XS.TRANSACTION_END, 'OK|')
    expect(await read).toBe('1')
    domain.close()
  })
})

test.each(['', '0', '-1', 'x', '7x', '4294967296'])(
  '%j is not a transaction id',
  async (answer) => {
    const xenstored = new ScriptedXenstored()
    const client = await openXenstore(xenstored)
    let runs = 0
    const transaction = client.transaction(async () => {
      runs++
    })
    await turn()
    xenstored.send(XS.TRANSACTION_START, xenstored.sent[0]?.reqId ?? 0, `${answer}|`)
    await expect(transaction).rejects.toThrow(`EIO ("${answer}" is not a transaction id)`)
    expect(runs).toBe(0)
    expect(xenstored.sent.length).toBe(1)
    client.close()
  },
)

test('rejects when every attempt conflicts', async () => {
  await other.write('/n', '1')
  let attempts = 0
  const hopeless = dom0.transaction(async (view) => {
    attempts++
    await view.read('/n')
    await other.write('/n', String(attempts))
  })
  await expect(hopeless).rejects.toMatchObject({ errno: 'EAGAIN', details: { attempts: 40 } })
  expect(attempts).toBe(40)
  expect(store.leftOpen).toEqual([])
})

test('ends on its signal: before, within and between attempts', async () => {
  const [before, within, between] = [
    new AbortController(),
    new AbortController(),
    new AbortController(),
  ]
  before.abort(new Error('before'))
  await expect(dom0.transaction(async () => {}, { signal: before.signal })).rejects.toThrow(
    'before',
  )
  await expect(
    dom0.transaction(
      async (view) => {
        await view.write('/a', '1')
        within.abort(new Error('within'))
      },
      { signal: within.signal },
    ),
  ).rejects.toThrow('within')
  setTimeout(() => between.abort(new Error('between')), 30)
  const conflicting = dom0.transaction(
    async (view) => {
      await view.list('/tool')
      await other.mkdir('/tool/x')
      await other.rm('/tool/x')
    },
    { signal: between.signal },
  )
  await expect(conflicting).rejects.toThrow('between')
  expect(await dom0.exists('/a')).toBe(false)
  expect(store.leftOpen).toEqual([])
})

test('its view rejects everything afterwards', async () => {
  const view = await dom0.transaction(async (inner) => inner)
  await expect(view.read('/tool')).rejects.toThrow(
    'the transaction is over: await READ of "/tool" within its body',
  )
})

test('a commit refused for another reason is an error at once', async () => {
  const xenstored = new ScriptedXenstored()
  const client = await openXenstore(xenstored)
  const transaction = client.transaction(async () => 1)
  await turn()
  xenstored.send(XS.TRANSACTION_START, xenstored.sent[0]?.reqId ?? 0, '7|')
  await turn()
  expect(xenstored.sent[1]).toMatchObject({ type: XS.TRANSACTION_END, txId: 7, payload: 'T|' })
  xenstored.send(XS.ERROR, xenstored.sent[1]?.reqId ?? 0, 'ENOSPC|')
  await expect(transaction).rejects.toMatchObject({ errno: 'ENOSPC' })
  expect(xenstored.sent.length).toBe(2)
})
