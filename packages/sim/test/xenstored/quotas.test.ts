/** Quotas of one domain, with the values of C xenstored 4.17 and the names of later releases. */
import { XS } from '@xenkit/wire'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Xenstored } from '../../src/xenstored/index.ts'
import { RawXenstore, startXenstored, until } from '../support/raw-xenstore.ts'

let xenstored: Xenstored
let log: string[]
let dom0: RawXenstore
let dom5: RawXenstore

beforeEach(async () => {
  log = []
  ;({ xenstored, dom0, dom5 } = await startXenstored({ log: (line) => log.push(line) }))
})

const setQuota = (name: string, value: number): Promise<string> =>
  dom0.ask(XS.SET_QUOTA, `5|${name}|${value}|`)
const usedBy5 = (what: 'memory' | 'outstanding'): number =>
  xenstored.domains.get(5)?.used(what) ?? Number.NaN
const count = (answers: readonly string[], answer: string): number =>
  answers.filter((one) => one === answer).length
const settled = async (): Promise<void> => void (await dom0.events())

describe('of a guest', () => {
  test('nodes: 1000, its home included', async () => {
    const answers = await Promise.all(
      Array.from({ length: 1200 }, (_, i) => dom5.mkdir(`d${i % 20}/${i}`)),
    )
    expect(count(answers, 'OK|')).toBe(1000 - 1 - 20)
    expect(new Set(answers)).toEqual(new Set(['OK|', 'ENOSPC']))
    expect(await Promise.all([dom5.rm('d0'), dom5.mkdir('again'), dom0.mkdir('/other')])).toEqual([
      'OK|',
      'OK|',
      'OK|',
    ])
  })

  test('nodes: one less in a transaction, which fails at its end', async () => {
    await setQuota('nodes', 10)
    const tx = await dom5.begin()
    expect(
      new Set(await Promise.all(Array.from({ length: 9 }, (_, i) => dom5.mkdir(`n${i}`, tx)))),
    ).toEqual(new Set(['OK|']))
    expect(await dom5.end(tx)).toBe('ENOSPC')
    const less = await dom5.begin()
    await Promise.all(Array.from({ length: 8 }, (_, i) => dom5.mkdir(`n${i}`, less)))
    expect(await dom5.end(less)).toBe('OK|')
    expect(await Promise.all([dom5.mkdir('one'), dom5.mkdir('more')])).toEqual(['OK|', 'ENOSPC'])
  })

  test('size of a node: below 2048 bytes with its header, permissions and names', async () => {
    expect(
      await Promise.all([
        dom5.write('x', 'v'.repeat(2048 - 32 - 1)),
        dom5.write('x', 'v'.repeat(2048 - 32)),
        dom0.write('/x', 'v'.repeat(4000)),
      ]),
    ).toEqual(['OK|', 'ENOSPC', 'OK|'])
    expect((await dom5.read('x')).length).toBe(2015)
    const names = await Promise.all(
      Array.from({ length: 30 }, (_, i) => dom5.mkdir(`d/${'n'.repeat(97)}${i}`)),
    )
    expect(count(names, 'OK|')).toBe(20)
  })

  test('permissions of a node: 5', async () => {
    await dom5.write('x', '')
    expect(
      await Promise.all([
        dom5.setPerms('x', 'n5|r1|r2|r3|r4'),
        dom5.setPerms('x', 'n5|r1|r2|r3|r4|r6'),
        dom0.setPerms('/local/domain/5/x', 'n5|r1|r2|r3|r4|r6'),
      ]),
    ).toEqual(['OK|', 'ENOSPC', 'OK|'])
  })

  test('watches: 128 and one more', async () => {
    const answers = await Promise.all(
      Array.from({ length: 131 }, (_, i) => dom5.watch('x', String(i))),
    )
    expect(answers.slice(127)).toEqual(['OK|', 'OK|', 'E2BIG', 'E2BIG'])
    expect(
      await Promise.all([dom5.unwatch('x', '0'), dom5.watch('x', 'more'), dom5.watch('x', 'most')]),
    ).toEqual(['OK|', 'OK|', 'E2BIG'])
  })

  test('transactions at a time: 10 and one more', async () => {
    const ids = await Promise.all(Array.from({ length: 11 }, () => dom5.begin()))
    expect(await dom5.ask(XS.TRANSACTION_START, '|')).toBe('ENOSPC')
    await dom5.end(ids[0] ?? 0, 'F')
    expect(await dom5.begin()).toBeGreaterThan(0)
  })

  test('watches and transactions count per domain, over all its connections', async () => {
    const other = new RawXenstore(xenstored, 5)
    await setQuota('watches', 1)
    await setQuota('transactions', 1)
    expect([
      await dom5.watch('x', 't'),
      await other.watch('x', 't'),
      await dom5.watch('y', 't'),
    ]).toEqual(['OK|', 'OK|', 'E2BIG'])
    await Promise.all([dom5.begin(), other.begin()])
    expect(await dom5.ask(XS.TRANSACTION_START, '|')).toBe('ENOSPC')
    other.connection.close()
    expect(await Promise.all([dom5.watch('y', 't'), dom5.begin()])).toEqual(['OK|', 2])
  })

  test('nodes of a transaction: 1024, and one that exceeded it can not be committed', async () => {
    const tx = await dom5.begin()
    const answers = await Promise.all(
      Array.from({ length: 1100 }, (_, i) => dom5.read(`n${i}`, tx)),
    )
    expect(count(answers, 'ENOENT')).toBe(1023) // plus the parent of all 1023
    expect(answers.at(-1)).toBe('ENOSPC')
    expect(await dom5.end(tx)).toBe('ENOMEM')
  })

  test('length of a path', async () => {
    await setQuota('path-max', 10)
    expect(
      await Promise.all([
        dom5.read('0123456789'),
        dom5.read('0123456789a'),
        dom0.read('/0123456789a'),
      ]),
    ).toEqual(['ENOENT', 'EINVAL', 'ENOENT'])
  })
})

describe('outstanding requests: 20', () => {
  test('a domain waits while others have not taken the events of its changes', async () => {
    await dom0.watch('/local/domain/5', 't')
    await dom0.events()
    const other = new RawXenstore(xenstored, 0)
    dom0.connection.pause()
    const answers = Promise.all(Array.from({ length: 50 }, (_, i) => dom5.write(`n${i}`, '')))
    await other.events()
    await until(() => usedBy5('outstanding') === 20)
    await other.events()
    expect((await other.list('/local/domain/5')).split('|').length - 1).toBe(20)
    dom0.connection.resume()
    expect(count(await answers, 'OK|')).toBe(50)
    expect((await dom0.events()).length).toBe(50)
    expect(usedBy5('outstanding')).toBe(0)
  })

  test('a domain waits while it does not take its replies', async () => {
    dom5.connection.pause()
    const answers = Promise.all(Array.from({ length: 50 }, (_, i) => dom5.write(`n${i}`, '')))
    await until(() => usedBy5('outstanding') === 20)
    await settled()
    expect((await dom0.list('/local/domain/5')).split('|').length - 1).toBe(20)
    dom5.connection.resume()
    expect(count(await answers, 'OK|')).toBe(50)
  })

  test('undelivered messages no longer count when their connection ends', async () => {
    await dom0.watch('/local/domain/5', 't')
    const other = new RawXenstore(xenstored, 0)
    dom0.connection.pause()
    const answers = Promise.all(Array.from({ length: 50 }, (_, i) => dom5.write(`n${i}`, '')))
    await until(() => usedBy5('outstanding') === 20)
    dom0.connection.close()
    expect(count(await answers, 'OK|')).toBe(50)
    expect(await other.read('/local/domain/5/n49')).toBe('')
  })

  describe('events that a guest does not take', () => {
    beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }))
    afterEach(() => void vi.useRealTimers())

    test('no longer count after 20 seconds', async () => {
      xenstored.introduceDomain(6)
      const dom6 = new RawXenstore(xenstored, 6)
      await dom0.setPerms('/local/domain/5', 'r5')
      await dom6.watch('/local/domain/5', 't')
      dom6.connection.pause()
      const answers = Promise.all(Array.from({ length: 50 }, (_, i) => dom5.write(`n${i}`, '')))
      await until(() => usedBy5('outstanding') === 20)
      vi.advanceTimersByTime(19_999)
      await settled()
      expect(usedBy5('outstanding')).toBe(20)
      vi.advanceTimersByTime(1)
      await until(() => usedBy5('outstanding') === 20)
      expect((await dom0.list('/local/domain/5')).split('|').length - 1).toBe(40)
      vi.advanceTimersByTime(20_000)
      expect(count(await answers, 'OK|')).toBe(50)
      dom6.connection.resume()
      expect(vi.getTimerCount()).toBe(0)
      expect((await dom6.events()).length).toBe(51)
    })
  })
})

describe('memory', () => {
  /**
   * Returns the bytes that C xenstored counts for a node: its path, a header of 24, 8 per
   * permission, its value, and its children's names.
   */
  const node = (path: string, value: string, children: string, permissions = 1): number =>
    path.length + 24 + 8 * permissions + value.length + children.length

  test('counts nodes, snapshots of transactions, watches, and undelivered messages', async () => {
    const home = node('/local/domain/5', '', '')
    expect(usedBy5('memory')).toBe(home)
    await dom5.write('a', 'value')
    const tree = node('/local/domain/5', '', 'a|') + node('/local/domain/5/a', 'value', '')
    expect(usedBy5('memory')).toBe(tree)
    await dom5.setPerms('a', 'n5|r6')
    expect(usedBy5('memory')).toBe(tree + 8)
    await dom5.watch('a', 'token')
    expect(usedBy5('memory')).toBe(tree + 8 + '/local/domain/5/a'.length + 'token'.length)
    await dom5.unwatch('a', 'token')
    const generation = String(xenstored.domains.generation + 1)
    const tx = await dom5.begin()
    await dom5.read('a', tx)
    await dom5.read('none', tx)
    expect(usedBy5('memory')).toBe(2 * (tree + 8) + 2 * (generation.length + 1))
    await dom5.end(tx)
    dom5.connection.pause()
    void dom5.read('a')
    await settled()
    expect(usedBy5('memory')).toBe(tree + 8 + 16 + 'value'.length)
    dom5.connection.resume()
    await dom5.rm('a')
    expect(usedBy5('memory')).toBe(home)
    await dom0.setPerms('/local/domain/5', 'n0')
    expect(usedBy5('memory')).toBe(0)
  })

  test('a request that exceeds it is ENOMEM, and changes nothing', async () => {
    await setQuota('memory', 300)
    const before = usedBy5('memory')
    expect(
      await Promise.all([
        dom5.write('a/b', 'v'.repeat(200)),
        dom5.watch('x', 't'.repeat(300)),
        dom5.write('a', ''),
      ]),
    ).toEqual(['ENOMEM', 'ENOMEM', 'OK|'])
    expect(await dom5.rm('a')).toBe('OK|')
    expect(usedBy5('memory')).toBe(before)
  })

  test('counts for the owner of a node, whichever domain writes', async () => {
    await dom5.write('a', '')
    await setQuota('memory', 300)
    expect(
      await Promise.all([
        dom0.write('/local/domain/5/a', 'v'.repeat(300)),
        dom0.write('/local/domain/5/a', 'v'.repeat(100)),
      ]),
    ).toEqual(['ENOMEM', 'OK|'])
  })

  test('a long reply that exceeds it is ENOMEM, a short one is always allowed', async () => {
    await dom5.write('a', 'v'.repeat(200))
    await setQuota('memory', usedBy5('memory') + 2)
    expect(await Promise.all([dom5.read('a'), dom5.mkdir('a')])).toEqual(['ENOMEM', 'OK|'])
  })

  test('events that exceed it are not queued', async () => {
    await dom0.setPerms('/', 'r0')
    await dom5.watch('/', 't')
    await dom5.events()
    await setQuota('memory', usedBy5('memory') + 100)
    dom5.connection.pause()
    for (let i = 0; i < 10; i++) await dom0.write(`/n${i}`, '')
    dom5.connection.resume()
    expect(await dom5.events()).toEqual(['/n0 t', '/n1 t', '/n2 t', '/n3 t'])
  })

  test('a domain with too much in transactions waits until some of it is freed', async () => {
    await dom5.write('a', 'v'.repeat(500))
    const tx = await dom5.begin()
    await setQuota('memory', usedBy5('memory') + 550)
    // The transaction's snapshot still fits into the quota; only the reply doesn't.
    expect(await dom5.read('a', tx)).toBe('ENOMEM')
    let answered = false
    const held = dom5.mkdir('b').then((answer) => {
      answered = true
      return answer
    })
    await settled()
    await settled()
    expect(answered).toBe(false)
    await dom0.write('/local/domain/5/a', '')
    expect(await held).toBe('OK|')
  })

  test('exceeding the soft limit is logged, at intervals', async () => {
    await setQuota('soft-memory', 100)
    for (let i = 0; i < 10; i++) await dom5.write('a', 'v'.repeat(100 + i))
    expect(log).toEqual([
      expect.stringMatching(
        /^domain 5 uses \d+ bytes of memory: the soft limit is 100, the hard limit 2621440$/,
      ),
    ])
  })
})

describe('GET_QUOTA and SET_QUOTA', () => {
  const NAMES =
    'nodes watches outstanding memory soft-memory transactions transaction-nodes node-permissions path-max node-size|'

  test.each([
    ['', NAMES],
    ['nodes|', '1000|'],
    ['memory|', '2621440|'],
    ['soft-memory|', '2097152|'],
    ['5|watches|', '128|'],
    ['9|node-size|', '2048|'],
    ['none|', 'EINVAL'],
    ['soft-nodes|', 'EINVAL'],
    ['|', 'EINVAL'],
    ['constructor|', 'EINVAL'],
    ['5|', 'EINVAL'],
    ['x|nodes|', 'EINVAL'],
    ['40000|nodes|', 'ENOENT'],
    ['5|nodes|1|', 'EINVAL'],
  ])('GET_QUOTA "%s"', async (payload, answer) => {
    expect(await dom0.ask(XS.GET_QUOTA, payload)).toBe(answer)
  })

  test.each([
    ['nodes|1|', 'OK|'],
    ['5|nodes|1|', 'OK|'],
    ['5|nodes|0|', 'OK|'],
    ['5|nodes|x|', 'OK|'],
    ['nodes|', 'EINVAL'],
    ['', 'EINVAL'],
    ['none|1|', 'EINVAL'],
    ['nodes|-1|', 'EINVAL'],
    ['5|none|1|', 'EINVAL'],
    ['x|nodes|1|', 'EINVAL'],
    ['40000|nodes|1|', 'ENOENT'],
    ['5|nodes|1|1|', 'EINVAL'],
  ])('SET_QUOTA "%s"', async (payload, answer) => {
    expect(await dom0.ask(XS.SET_QUOTA, payload)).toBe(answer)
  })

  test('the global ones apply to new domains', async () => {
    await dom0.ask(XS.SET_QUOTA, 'watches|7|')
    xenstored.introduceDomain(6)
    expect(
      await Promise.all(
        ['watches|', '5|watches|', '6|watches|'].map((payload) => dom0.ask(XS.GET_QUOTA, payload)),
      ),
    ).toEqual(['7|', '128|', '7|'])
  })

  test('one that is set before a domain is introduced applies to it', async () => {
    await dom0.ask(XS.SET_QUOTA, '6|nodes|1|')
    xenstored.introduceDomain(6)
    await dom0.mkdir('/local/domain/6')
    await dom0.setPerms('/local/domain/6', 'n6')
    expect(await new RawXenstore(xenstored, 6).mkdir('x')).toBe('ENOSPC')
  })

  test('0 means no limit', async () => {
    for (const name of NAMES.slice(0, -1).split(' ')) await setQuota(name, 0)
    const answers = await Promise.all(
      Array.from({ length: 1100 }, (_, i) => dom5.write(`n${i}`, 'v'.repeat(3000))),
    )
    expect(new Set(answers)).toEqual(new Set(['OK|']))
  })
})
