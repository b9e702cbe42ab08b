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

describe('nodes', () => {
  test('writing creates the node and its parents, which are empty', async () => {
    expect(await dom0.write('/a/b/c', 'x|y')).toBe('OK|')
    expect(
      await Promise.all([
        dom0.read('/a/b/c'),
        dom0.read('/a/b'),
        dom0.list('/a'),
        dom0.list('/a/b/c'),
      ]),
    ).toEqual(['x|y', '', 'b|', ''])
  })

  test('children are listed in the order of creation', async () => {
    for (const name of ['z', 'a', 'm']) await dom0.mkdir(`/d/${name}`)
    await dom0.rm('/d/a')
    await dom0.mkdir('/d/a')
    expect(await dom0.list('/d')).toBe('z|m|a|')
  })

  test('mkdir leaves an existing node unchanged', async () => {
    await dom0.write('/a', '1')
    expect(await dom0.mkdir('/a')).toBe('OK|')
    expect(await dom0.read('/a')).toBe('1')
  })

  test('rm removes the tree; a missing node is no error, a missing parent is', async () => {
    await dom0.write('/a/b/c', '1')
    expect(await dom0.rm('/a/b')).toBe('OK|')
    expect(
      await Promise.all([
        dom0.read('/a/b/c'),
        dom0.list('/a'),
        dom0.rm('/a/b'),
        dom0.rm('/a/b/c'),
        dom0.rm('/'),
      ]),
    ).toEqual(['ENOENT', '', 'OK|', 'ENOENT', 'EINVAL'])
  })

  test('a relative path starts at the home of the domain that asks', async () => {
    await dom5.write('data/x', '1')
    await dom0.write('data', '0')
    expect(
      await Promise.all([dom0.read('/local/domain/5/data/x'), dom0.read('/local/domain/0/data')]),
    ).toEqual(['1', '0'])
  })

  test('a list longer than a message is E2BIG', async () => {
    for (let i = 0; i < 50; i++) await dom0.mkdir(`/d/${'n'.repeat(90)}${i}`)
    expect(await dom0.list('/d')).toBe('E2BIG')
  })

  test.each(['', '/a/', '//', '/a//b', '/a b', '/é', `/${'a'.repeat(3072)}`])(
    'not a path: case %#',
    async (path) => {
      expect(
        await Promise.all([
          dom0.read(path),
          dom0.write(path, ''),
          dom0.rm(path),
          dom0.watch(path, 't'),
        ]),
      ).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL'])
    },
  )

  test('a special path is not a node', async () => {
    expect(
      await Promise.all([
        dom0.read('@releaseDomain'),
        dom0.write('@releaseDomain', ''),
        dom0.rm('@releaseDomain'),
        dom0.list('@releaseDomain'),
      ]),
    ).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL'])
  })

  test('a path has at most 2048 bytes, not counting /local/domain/DOMID/', async () => {
    for (const client of [dom0, dom5]) {
      expect(await client.read(`/local/domain/5/${'a'.repeat(2048)}`)).toBe('ENOENT')
      expect(await client.read(`/local/domain/5/${'a'.repeat(2049)}`)).toBe('EINVAL')
      expect(await client.read(`/${'a'.repeat(2048)}`)).toBe('EINVAL')
    }
  })
})

describe('permissions', () => {
  beforeEach(async () => {
    for (const [path, perms] of [
      ['/none', 'n0'],
      ['/readable', 'r0'],
      ['/listed', 'n0|r5|w6'],
      ['/writable', 'n0|b5'],
      ['/blind', 'n0|w5'],
      ['/shut-out', 'b0|n5'],
    ] as const) {
      await dom0.write(path, 'v')
      await dom0.setPerms(path, perms)
    }
  })

  test.each([
    ['/none', 'EACCES', 'EACCES'],
    ['/readable', 'v', 'EACCES'],
    ['/listed', 'v', 'EACCES'],
    ['/writable', 'v', 'OK|'],
    ['/blind', 'EACCES', 'OK|'],
    ['/shut-out', 'EACCES', 'EACCES'],
  ])('%s', async (path, read, write) => {
    expect(await dom5.read(path)).toBe(read)
    expect(await dom5.write(path, 'w')).toBe(write)
    expect(await dom0.read(path)).toBe(write === 'OK|' ? 'w' : 'v')
  })

  test('a missing node and a forbidden one look the same, unless the parent may be read', async () => {
    expect(
      await Promise.all([
        dom5.read('/none/x'),
        dom5.read('/readable/x'),
        dom5.write('/readable/x', ''),
        dom5.rm('/none/x/y'),
        dom5.rm('/writable/x/y'),
      ]),
    ).toEqual(['EACCES', 'ENOENT', 'EACCES', 'EACCES', 'ENOENT'])
  })

  test('new nodes inherit; a guest owns what it creates', async () => {
    await dom0.write('/writable/by0/x', '')
    await dom5.write('/writable/by5/x', '')
    expect(
      await Promise.all([
        dom0.getPerms('/writable/by0/x'),
        dom0.getPerms('/writable/by5'),
        dom0.getPerms('/writable/by5/x'),
      ]),
    ).toEqual(['n0|b5|', 'n5|b5|', 'n5|b5|'])
  })

  test('the owner may change them, but not the owner', async () => {
    await dom5.write('mine', '')
    expect(
      await Promise.all([
        dom5.setPerms('mine', 'r5|b7'),
        dom5.setPerms('mine', 'n0'),
        dom5.setPerms('/writable', 'b5'),
        dom5.setPerms('mine', 'x5'),
        dom5.setPerms('mine', 'n5|r1|r2|r3|r4'),
        dom5.setPerms('mine', 'n5|r1|r2|r3|r4|r6'),
      ]),
    ).toEqual(['OK|', 'EPERM', 'EACCES', 'EINVAL', 'OK|', 'ENOSPC'])
    expect(await dom0.setPerms('/local/domain/5/mine', 'n0')).toBe('OK|')
    expect(await dom5.read('mine')).toBe('EACCES')
  })
})

describe('watches', () => {
  test('fire when set, and for changes at and below the path, with the changed path', async () => {
    expect(await dom0.watch('/a', 'tok')).toBe('OK|')
    expect(await dom0.events()).toEqual(['/a tok'])
    await dom0.write('/a/b', '1')
    await dom0.write('/ab', '1')
    await dom0.setPerms('/a', 'r0')
    await dom0.rm('/a/b')
    await dom0.rm('/a/b') // removes a node that doesn't exist: no event
    await dom0.mkdir('/a') // creates a node that exists: no event
    expect(await dom0.events()).toEqual(['/a/b tok', '/a tok', '/a/b tok'])
  })

  test('an event comes before its own reply and all later ones', async () => {
    await dom0.watch('/a', 't')
    await dom0.events()
    dom0.arrivals.length = 0
    await Promise.all([dom0.write('/a', '1'), dom0.read('/a')])
    expect(dom0.arrivals).toEqual([XS.WATCH_EVENT, XS.WRITE, XS.READ])
  })

  test('a watch below a removed node reports its own path', async () => {
    await dom0.write('/a/b/c/d', '1')
    await dom0.watch('/a/b/c', 'on')
    await dom0.watch('/a', 'above')
    await dom0.watch('/a/b/c/d/e', 'absent')
    await dom0.events()
    await dom0.rm('/a/b')
    expect(await dom0.events()).toEqual(['/a/b/c on', '/a/b above'])
  })

  test('a watch on a relative path reports relative paths', async () => {
    await dom5.watch('data', 't')
    await dom0.write('/local/domain/5/data/x', '1')
    expect(await dom5.events()).toEqual(['data t', 'data/x t'])
  })

  test('path and token together are unique per connection', async () => {
    const other = new RawXenstore(xenstored, 0)
    expect(
      await Promise.all([
        dom0.watch('/a', 't'),
        dom0.watch('/a', 't'),
        dom0.watch('/a', 'u'),
        dom0.watch('/b', 't'),
        other.watch('/a', 't'),
      ]),
    ).toEqual(['OK|', 'EEXIST', 'OK|', 'OK|', 'OK|'])
    expect(await Promise.all([dom0.unwatch('/a', 't'), dom0.unwatch('/a', 't')])).toEqual([
      'OK|',
      'ENOENT',
    ])
    await dom0.events()
    await dom0.write('/a', '1')
    expect(await dom0.events()).toEqual(['/a u'])
  })

  test('tokens come back byte for byte', async () => {
    const token = String.fromCharCode(
      ...Array.from({ length: 127 }, (_, i) => i + 1).filter((code) => code !== 32 && code !== 124),
    )
    await dom0.watch('/a', token)
    expect(await dom0.events()).toEqual([`/a ${token}`])
  })

  test('depth limits the levels below that are reported', async () => {
    for (const depth of [0, 1, 2]) await dom0.ask(XS.WATCH, `/a|d${depth}|${depth}|`)
    await dom0.ask(XS.WATCH, '/|root1|1|')
    await dom0.events()
    for (const path of ['/a', '/a/b', '/a/b/c', '/a/b/c/d']) await dom0.write(path, '1')
    expect(await dom0.events()).toEqual([
      '/a d0',
      '/a d1',
      '/a d2',
      '/a root1',
      '/a/b d1',
      '/a/b d2',
      '/a/b/c d2',
    ])
    expect(await dom0.ask(XS.WATCH, '/a|t|-1|')).toBe('EINVAL')
  })

  test('fire only for domains that may read the node, could before, or may read its parent', async () => {
    await dom0.write('/a/secret', '1')
    await dom0.setPerms('/a', 'n0')
    await dom5.watch('/a/secret', 't')
    await dom5.events()
    await dom0.write('/a/secret', '2')
    expect(await dom5.events()).toEqual([])
    await dom0.setPerms('/a/secret', 'n0|r5')
    expect(await dom5.events()).toEqual(['/a/secret t'])
    await dom0.setPerms('/a/secret', 'n0')
    expect(await dom5.events()).toEqual(['/a/secret t'])
    await dom0.setPerms('/a', 'r0')
    await dom0.rm('/a/secret')
    expect(await dom5.events()).toEqual(['/a/secret t'])
  })

  test('an event that is already waiting is not queued again', async () => {
    await dom0.watch('/a', 't')
    await dom0.events()
    // Without the pause, the first event could be delivered before the next write causes another.
    dom0.connection.pause()
    const written = Promise.all([1, 2, 3].map((value) => dom0.write('/a', String(value))))
    const witness = new RawXenstore(xenstored, 0)
    while ((await witness.read('/a')) !== '3');
    dom0.connection.resume()
    await written
    expect(await dom0.events()).toEqual(['/a t'])
  })
})

describe('transactions', () => {
  test('take effect as a whole, with their events, at the end', async () => {
    await dom0.watch('/a', 't')
    await dom0.events()
    const tx = await dom0.begin()
    await dom0.write('/a/x', '1', tx)
    await dom0.write('/a/y', '2', tx)
    expect(
      await Promise.all([dom0.read('/a/x', tx), dom0.list('/a', tx), dom0.read('/a/x')]),
    ).toEqual(['1', 'x|y|', 'ENOENT'])
    expect(await dom0.events()).toEqual([])
    expect(await dom0.end(tx)).toBe('OK|')
    expect(await dom0.list('/a')).toBe('x|y|')
    expect(await dom0.events()).toEqual(['/a/x t', '/a/y t'])
  })

  test('change nothing when aborted', async () => {
    const tx = await dom0.begin()
    await dom0.write('/a/x', '1', tx)
    expect(await dom0.end(tx, 'F')).toBe('OK|')
    expect(await Promise.all([dom0.read('/a'), dom0.read('/a', tx), dom0.end(tx)])).toEqual([
      'ENOENT',
      'ENOENT',
      'ENOENT',
    ])
  })

  test.each([
    [
      'a node it read was written',
      (tx: number) => dom0.read('/n', tx),
      () => dom0.write('/n', '2'),
    ],
    ['a node it read was removed', (tx: number) => dom0.read('/n', tx), () => dom0.rm('/n')],
    ['a node it missed was made', (tx: number) => dom0.read('/m', tx), () => dom0.mkdir('/m')],
    ['a list it read has grown', (tx: number) => dom0.list('/', tx), () => dom0.mkdir('/m')],
    [
      'a node it wrote was written',
      (tx: number) => dom0.write('/n', '3', tx),
      () => dom0.write('/n', '2'),
    ],
    [
      'permissions it relied on changed',
      (tx: number) => dom0.getPerms('/n', tx),
      () => dom0.setPerms('/n', 'r0'),
    ],
    [
      'both made nodes in one directory',
      (tx: number) => dom0.mkdir('/n/a', tx),
      () => dom0.mkdir('/n/b'),
    ],
  ])('conflict when %s', async (_, within, meanwhile) => {
    await dom0.write('/n', '1')
    const tx = await dom0.begin()
    await within(tx)
    await meanwhile()
    expect(await dom0.end(tx)).toBe('EAGAIN')
    expect(await dom0.end(tx)).toBe('ENOENT')
  })

  test('do not conflict over nodes that they do not use', async () => {
    await dom0.write('/n/x', '1')
    const [one, two] = [await dom0.begin(), await dom0.begin()]
    await dom0.write('/n/x', '2', one)
    await dom0.write('/m', '2', two)
    await dom0.write('/tool/x', '1')
    expect(await Promise.all([dom0.end(one), dom0.end(two)])).toEqual(['OK|', 'OK|'])
  })

  test('see a node as it was when first read', async () => {
    await dom0.write('/n', '1')
    const tx = await dom0.begin()
    await dom0.read('/n', tx)
    await dom0.write('/n', '2')
    expect(await dom0.read('/n', tx)).toBe('1')
  })

  test('belong to their connection', async () => {
    const other = new RawXenstore(xenstored, 0)
    const tx = await dom0.begin()
    expect(
      await Promise.all([
        other.read('/', tx),
        other.end(tx),
        dom0.ask(XS.TRANSACTION_START, '|', tx),
        dom0.end(0),
      ]),
    ).toEqual(['ENOENT', 'ENOENT', 'EBUSY', 'ENOENT'])
    expect(await dom0.ask(XS.TRANSACTION_END, 'X|', tx)).toBe('EINVAL')
  })
})

test('openResources lists open resources, and nothing once they are closed', async () => {
  await dom5.watch('x', 't')
  const tx = await dom5.begin()
  expect(xenstored.openResources()).toEqual([
    'xenstore connection of domain 0',
    'xenstore connection of domain 5',
    'xenstore connection of domain 5: watch "/local/domain/5/x" with token "t"',
    `xenstore connection of domain 5: transaction ${tx}`,
  ])
  dom0.connection.close()
  dom5.connection.close()
  expect(xenstored.openResources()).toEqual([])
})
