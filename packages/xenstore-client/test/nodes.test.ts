import { XenstoreError } from '@xenkit/hypervisor'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { XenstoreClient } from '../src/index.ts'
import { Store } from './support/store.ts'

let store: Store
let dom0: XenstoreClient
let dom5: XenstoreClient

beforeEach(async () => {
  store = new Store()
  await store.introduce(5)
  dom0 = await store.open(0)
  dom5 = await store.open(5)
})

afterEach(() => store[Symbol.dispose]())

test('a written value is read again, as text and as bytes', async () => {
  const text = fc.string({ unit: 'binary', maxLength: 100 })
  await fc.assert(
    fc.asyncProperty(text, fc.uint8Array({ maxLength: 100 }), async (value, bytes) => {
      await Promise.all([dom0.write('/text', value), dom0.write('/bytes', bytes)])
      expect(await dom0.read('/text')).toBe(value)
      expect(await dom0.readBytes('/bytes')).toEqual(bytes)
    }),
  )
})

test('a byte order mark is part of the value', async () => {
  await dom0.write('/a', '\u{feff}x')
  expect(await dom0.read('/a')).toBe('\u{feff}x')
})

test('missing nodes', async () => {
  await dom0.write('/a/empty', '')
  expect(
    await Promise.all([
      dom0.readOptional('/a/b'),
      dom0.readOptional('/a/empty'),
      dom0.exists('/a/b'),
      dom0.exists('/a/empty'),
    ]),
  ).toEqual([undefined, '', false, true])
  await expect(dom0.read('/a/b')).rejects.toThrow('xenstore READ "/a/b": ENOENT (no such node)')
  await expect(dom0.list('/a/b')).rejects.toMatchObject({
    errno: 'ENOENT',
    code: 'ERR_XEN_XENSTORE',
    details: { operation: 'DIRECTORY', subject: '/a/b' },
  })
})

test('rm succeeds whether or not the node existed', async () => {
  await dom0.write('/a/b/c', '1')
  await dom0.rm('/a/b')
  await dom0.rm('/a/b')
  await dom0.rm('/a/b/c/d')
  expect(await dom0.list('/a')).toEqual([])
  await expect(dom5.rm('/tool')).rejects.toMatchObject({ errno: 'EACCES' })
})

test('list returns names, and none for a leaf', async () => {
  await Promise.all(['x', 'y'].map((name) => dom0.mkdir(`/d/${name}`)))
  expect(await Promise.all([dom0.list('/d'), dom0.list('/d/x')])).toEqual([['x', 'y'], []])
})

test('permissions', async () => {
  const permissions = {
    owner: 5,
    access: 'none',
    acl: [
      { domid: 7, access: 'read' },
      { domid: 8, access: 'both' },
    ],
  } as const
  await dom0.mkdir('/p')
  await dom0.setPerms('/p', permissions)
  expect(await dom5.getPerms('/p')).toEqual(permissions)
  await expect(dom5.setPerms('/p', { ...permissions, owner: 7 })).rejects.toThrow(
    'only domain 0 may change the owner',
  )
  await expect(dom5.readOptional('/tool')).rejects.toMatchObject({ errno: 'EACCES' })
  await expect(dom5.exists('/tool/x')).rejects.toMatchObject({ errno: 'EACCES' })
})

test('domains', async () => {
  expect(
    await Promise.all([
      dom0.getDomainPath(7),
      dom0.isDomainIntroduced(5),
      dom0.isDomainIntroduced(7),
    ]),
  ).toEqual(['/local/domain/7', true, false])
  await expect(dom5.isDomainIntroduced(5)).rejects.toBeInstanceOf(XenstoreError)
  await expect(dom0.getDomainPath(-1)).rejects.toThrow(
    '"domid" expected an integer 0..32751, got -1',
  )
})

test("a relative path is relative to the client's domain", async () => {
  await dom5.write('data/x', '1')
  expect(await dom0.read('/local/domain/5/data/x')).toBe('1')
})

describe("a path or value that xenstore can't hold is refused before it is sent", () => {
  test.each([
    '',
    '/a/',
    '/a//b',
    '/a b',
    '/a\0b',
    '/é',
    '@releaseDomain',
    `/${'a'.repeat(3072)}`,
    'a'.repeat(2049),
  ])('path %#', async (path) => {
    const promises: Promise<unknown>[] = [
      dom0.read(path),
      dom0.readBytes(path),
      dom0.readOptional(path),
      dom0.exists(path),
      dom0.list(path),
      dom0.write(path, ''),
      dom0.mkdir(path),
      dom0.rm(path),
    ]
    // Special paths accept only requests about permissions.
    if (!path.startsWith('@')) {
      promises.push(dom0.getPerms(path), dom0.setPerms(path, { owner: 0, access: 'none', acl: [] }))
    }
    for (const result of await Promise.allSettled(promises)) {
      expect(result).toMatchObject({ status: 'rejected', reason: expect.any(RangeError) })
    }
    expect(await dom0.read('/tool')).toBe('')
  })

  test('a string with lone surrogates', async () => {
    await dom0.write('/a', 'before')
    await expect(dom0.write('/a', 'a\ud800b')).rejects.toThrow(RangeError)
    await expect(dom0.write('/a', 'a\ud800b')).rejects.toThrow(
      'expected text without lone surrogates, got "/a\\u0000a\\ud800b"',
    )
    await expect(dom0.control('print', '\udfff')).rejects.toThrow(RangeError)
    expect(await dom0.read('/a')).toBe('before')
  })

  test('a value too long for a message', async () => {
    await dom0.write('/a', 'x'.repeat(4093))
    await expect(dom0.write('/a', 'x'.repeat(4094))).rejects.toThrow(
      'payload of WRITE expected 0..4096 bytes',
    )
    await expect(dom0.write('/a', new Uint8Array(4094))).rejects.toBeInstanceOf(RangeError)
    expect((await dom0.read('/a')).length).toBe(4093)
  })
})
