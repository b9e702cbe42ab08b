/** Nodes, transactions and watches: details in which xenstored follows Debian's xenstored 4.17. */
import { XS } from '@xenkit/wire'
import { beforeEach, describe, expect, test } from 'vitest'
import type { Xenstored } from '../../src/xenstored/index.ts'
import { RawXenstore, startXenstored } from '../support/raw-xenstore.ts'

let xenstored: Xenstored
let dom0: RawXenstore
let dom5: RawXenstore

beforeEach(async () => {
  ;({ xenstored, dom0, dom5 } = await startXenstored())
})

const generation = async (path: string): Promise<number> =>
  Number.parseInt(await dom0.ask(XS.DIRECTORY_PART, `${path}|0|`), 10)

describe('the generation', () => {
  test('of a new node is lower than those of its parents, which change with it', async () => {
    await dom0.mkdir('/a')
    const before = await generation('/')
    await dom0.write('/a/b/c', '')
    expect([await generation('/a/b/c'), await generation('/a/b'), await generation('/a')]).toEqual([
      before + 1,
      before + 2,
      before + 3,
    ])
  })

  test('counts each removed node, and each removal from a list of children', async () => {
    await dom0.write('/a/b/c', '')
    const before = await generation('/')
    await dom0.rm('/a')
    expect(await generation('/')).toBe(before + 3 + 3)
  })

  test('counts refused changes too', async () => {
    const before = await generation('/local/domain/5')
    expect(await dom5.write('x/y', 'v'.repeat(2100))).toBe('ENOSPC')
    await dom5.write('x', '')
    expect(await generation('/local/domain/5')).toBe(before + 1 + 2)
  })
})

describe('the events of a change', () => {
  test('arrive in the order in which the watches were set', async () => {
    for (const [path, token] of [
      ['/', '1'],
      ['/a', '2'],
      ['/a/b', '3'],
      ['/a', '4'],
      ['/', '5'],
    ] as const) {
      await dom0.watch(path, token)
    }
    await dom0.events()
    await dom0.write('/a/b', '')
    expect(await dom0.events()).toEqual(['/a/b 1', '/a/b 2', '/a/b 3', '/a/b 4', '/a/b 5'])
  })
})

describe('a commit', () => {
  const transact = async (body: (tx: number) => Promise<unknown>): Promise<void> => {
    const tx = await dom0.begin()
    await body(tx)
    expect(await dom0.end(tx)).toBe('OK|')
  }

  test("applies nodes in the order of first reading, and decides each one's events before the next", async () => {
    await dom0.mkdir('/a/b')
    for (const path of ['/a', '/a/b']) await dom0.setPerms(path, 'n0')
    await dom5.watch('/a/b', 't')
    await dom5.events()
    await transact(async (tx) => {
      await dom0.write('/a/b', '1', tx)
      await dom0.setPerms('/a', 'r0', tx)
    })
    expect(await dom5.events()).toEqual([])
    await dom0.setPerms('/a', 'n0')
    await transact(async (tx) => {
      await dom0.setPerms('/a', 'r0', tx)
      await dom0.write('/a/b', '1', tx)
    })
    expect(await dom5.events()).toEqual(['/a/b t'])
  })

  test('reports a removed node only to domains that could read it', async () => {
    await dom0.mkdir('/a/b')
    await dom0.setPerms('/a', 'r0')
    await dom0.setPerms('/a/b', 'n0')
    await dom5.watch('/a/b', 't')
    await dom5.events()
    await transact((tx) => dom0.rm('/a/b', tx))
    expect(await dom5.events()).toEqual([])
    await dom0.mkdir('/a/b')
    await dom5.events()
    await transact((tx) => dom0.rm('/a/b', tx))
    expect(await dom5.events()).toEqual(['/a/b t'])
  })

  test('fires watches above a node that was removed with its parent and created again', async () => {
    await dom0.write('/a/b/c', '1')
    await dom0.watch('/a', 't')
    await dom0.events()
    await transact(async (tx) => {
      await dom0.rm('/a/b', tx)
      await dom0.mkdir('/a/b/c', tx)
    })
    expect(await dom0.events()).toEqual(['/a/b t', '/a/b/c t'])
  })

  test('checks the quota of each owner with a changed number of nodes, if any was created', async () => {
    await dom5.write('x', '')
    await dom5.write('y', '')
    const domain = xenstored.domains.get(5)
    if (domain) domain.quota.nodes = 2
    const [less, moved] = [await dom5.begin(), await dom5.begin()]
    await dom5.rm('x', less)
    expect(await dom5.end(less)).toBe('OK|')
    if (domain) domain.quota.nodes = 3
    expect(await dom5.mkdir('z', moved)).toBe('OK|')
    await dom5.rm('y', moved)
    expect(await dom5.end(moved)).toBe('OK|')
    if (domain) domain.quota.nodes = 2
    const late = await dom5.begin()
    await dom5.rm('z', late)
    expect(await dom5.mkdir('w', late)).toBe('ENOSPC')
    expect(await dom5.end(late)).toBe('OK|')
  })

  test('checks the quota of an owner set by permissions, too', async () => {
    xenstored.introduceDomain(7)
    await dom0.mkdir('/local/domain/7')
    await dom0.setPerms('/local/domain/7', 'n7')
    await dom0.ask(XS.SET_TARGET, '7|5|')
    const dom7 = new RawXenstore(xenstored, 7)
    const domain = xenstored.domains.get(5)
    if (domain) domain.quota.nodes = 1
    const tx = await dom7.begin()
    await dom7.mkdir('x', tx)
    await dom7.setPerms('/local/domain/5', 'n5|r7', tx)
    expect(await dom7.end(tx)).toBe('ENOSPC')
  })
})

describe('a transaction that can not be committed any more', () => {
  let tx: number

  beforeEach(async () => {
    await dom0.write('/a/b', '1')
    await dom0.write('/a/c', '1')
    tx = await dom0.begin()
  })

  test('may find a node without its parent', async () => {
    await dom0.rm('/a')
    await dom0.read('/a', tx)
    await dom0.write('/a/b', '1')
    expect(await Promise.all([dom0.rm('/a/b', tx), dom0.end(tx)])).toEqual(['EINVAL', 'EAGAIN'])
  })

  test('may find a node that its parent does not list', async () => {
    await dom0.list('/a', tx)
    await dom0.write('/a/d', '1')
    expect(
      await Promise.all([
        dom0.rm('/a/d', tx),
        dom0.read('/a/d', tx),
        dom0.list('/a', tx),
        dom0.end(tx),
      ]),
    ).toEqual(['EIO', 'ENOENT', 'b|c|', 'EAGAIN'])
  })

  test('may miss a node that its parent lists; earlier removals stay', async () => {
    await dom0.list('/a', tx)
    await dom0.rm('/a/c')
    expect(await Promise.all([dom0.rm('/a', tx), dom0.list('/a', tx), dom0.end(tx)])).toEqual([
      'EIO',
      'c|',
      'EAGAIN',
    ])
  })

  test('may list a node twice', async () => {
    await dom0.list('/a', tx)
    await dom0.rm('/a/b')
    await dom0.mkdir('/a/b', tx)
    expect(
      await Promise.all([
        dom0.list('/a', tx),
        dom0.rm('/a/b', tx),
        dom0.list('/a', tx),
        dom0.end(tx),
      ]),
    ).toEqual(['b|c|b|', 'OK|', 'c|b|', 'EAGAIN'])
  })
})

describe('permissions that name a domain', () => {
  const reborn = (): RawXenstore => {
    xenstored.releaseDomain(5)
    xenstored.introduceDomain(5)
    return new RawXenstore(xenstored, 5)
  }

  beforeEach(async () => {
    await dom0.mkdir('/a')
    await dom0.setPerms('/a', 'n0|r5')
  })

  test('are shown, but never apply to a later domain', async () => {
    await dom0.mkdir('/b')
    const later = reborn()
    expect(await Promise.all([later.read('/a'), dom0.getPerms('/a')])).toEqual(['EACCES', 'n0|r5|'])
    await dom0.write('/a/x', '1')
    expect(await Promise.all([later.read('/a'), later.read('/a/x')])).toEqual(['EACCES', 'EACCES'])
    await dom0.setPerms('/a', 'n0|r5')
    expect(await Promise.all([later.read('/a'), later.read('/a/x')])).toEqual(['', 'EACCES'])
  })

  test('do not apply to a domain created while a transaction uses the node', async () => {
    const tx = await dom0.begin()
    await dom0.read('/a', tx)
    const later = reborn()
    await dom0.write('/a', '1', tx)
    expect(await dom0.end(tx)).toBe('OK|')
    expect(await later.read('/a')).toBe('EACCES')
  })

  test('apply to the next domain too if nothing has changed in between', async () => {
    await dom0.rm('/local/domain/5')
    await dom0.setPerms('/a', 'n0|r5')
    expect(await reborn().read('/a')).toBe('')
  })

  test('of a domain that ends before its introduction are void; its nodes are removed without events', async () => {
    await dom0.watch('@releaseDomain', 't')
    await dom0.mkdir('/b/c')
    await dom0.setPerms('/b', 'n7')
    await dom0.events()
    xenstored.releaseDomain(7)
    expect(await Promise.all([dom0.list('/b'), dom0.read('/b/c'), dom0.events()])).toEqual([
      'ENOENT',
      'ENOENT',
      [],
    ])
  })
})

test('the root stays, whichever domain owned it', async () => {
  await dom0.setPerms('/', 'r5')
  await dom5.write('/mine', '1')
  xenstored.releaseDomain(5)
  expect(await Promise.all([dom0.getPerms('/'), dom0.list('/')])).toEqual(['r0|', 'tool|local|'])
})

describe('permissions of a special path', () => {
  test('are not part of a transaction', async () => {
    const tx = await dom0.begin()
    expect(await dom0.setPerms('@releaseDomain', 'r0', tx)).toBe('OK|')
    await dom0.end(tx, 'F')
    await dom5.watch('@releaseDomain', 't')
    await dom5.events()
    xenstored.introduceDomain(7)
    xenstored.releaseDomain(7)
    expect(await dom5.events()).toEqual(['@releaseDomain t'])
  })

  test('can be changed by the owner, even to another owner; domain 0 inherits them', async () => {
    await dom0.setPerms('@introduceDomain', 'n5|r7')
    expect(await dom5.setPerms('@introduceDomain', 'n5|r7|r5')).toBe('OK|')
    xenstored.introduceDomain(7)
    const dom7 = new RawXenstore(xenstored, 7)
    expect(await dom7.setPerms('@introduceDomain', 'n7')).toBe('EACCES')
    xenstored.releaseDomain(5)
    xenstored.introduceDomain(5)
    const later = new RawXenstore(xenstored, 5)
    expect(await later.setPerms('@introduceDomain', 'n5')).toBe('EACCES')
    await later.watch('@introduceDomain', 't')
    await dom7.watch('@introduceDomain', 't')
    await Promise.all([later.events(), dom7.events()])
    xenstored.introduceDomain(8)
    expect(await Promise.all([later.events(), dom7.events()])).toEqual([[], ['@introduceDomain t']])
  })
})
