/** Which errors' texts a guest may read in its error node, and which only the operator sees. */
import { NegotiationError, XenError } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { reasonForGuest, reasonOf } from '../src/reason.ts'

/** Creates an error like those of node:fs, node:net and node:dns. */
const systemError = (message: string, names: object): Error =>
  Object.assign(new Error(message), names)
const storeError = (message: string, details: Record<string, string>, cause?: unknown): XenError =>
  new XenError('ERR_XEN_STORE', message, details, { cause })

const NODE = '/local/domain/7/device/vbd/51712/ring-ref'

describe('the guest is told why, the operator where as well', () => {
  test.each([
    [
      'an image',
      storeError('image "/srv/a b.img" can\'t be opened: ENOENT', { path: '/srv/a b.img' }),
      'image "…" can\'t be opened: ENOENT',
    ],
    [
      'a relative path',
      storeError('image "disk.img" is empty', { path: 'disk.img' }),
      'image "…" is empty',
    ],
    [
      'a path of one letter',
      storeError('image "a" is an image', { path: 'a' }),
      'image "…" is an image',
    ],
    [
      'a URI, and the address of its server',
      storeError(
        'nbd export "nbd://store.lan/vm" can\'t be opened: connect ECONNREFUSED 10.0.0.5:10809',
        { uri: 'nbd://store.lan/vm' },
        systemError('', { address: '10.0.0.5' }),
      ),
      'nbd export "…" can\'t be opened: connect ECONNREFUSED …',
    ],
    [
      'an address alone',
      systemError('connect EHOSTUNREACH fe80::1', { address: 'fe80::1' }),
      'unexpected: Error: connect EHOSTUNREACH …',
    ],
    [
      "a name that isn't found",
      systemError('getaddrinfo ENOTFOUND store.lan', { hostname: 'store.lan' }),
      'unexpected: Error: getaddrinfo ENOTFOUND …',
    ],
    [
      'a path and one that goes on',
      systemError('rename a -> a/b', { path: 'a', dest: 'a/b' }),
      'unexpected: Error: rename … -> …',
    ],
    ['nothing of the host', new Error('no such disk'), 'unexpected: Error: no such disk'],
    [
      'a node',
      new NegotiationError(`node "${NODE}" is missing`, { node: NODE, value: '', expected: '' }),
      `node "${NODE}" is missing`,
    ],
    ['no error', 'file:///srv/x', 'unexpected: …'],
  ])('%s', (_, error, told) => {
    expect(reasonForGuest(error)).toBe(told)
    const whole = error instanceof XenError ? error.message : `unexpected: ${String(error)}`
    expect(reasonOf(error)).toBe(whole)
  })
})

test('whatever the words, no path, URI or address of them is told', () => {
  const unit = fc.constantFrom(...'ab.-_é🙂')
  const name = fc.string({ unit, minLength: 1, maxLength: 6 }).map((text) => `secret${text}`)
  const names = fc.array(name, { minLength: 1, maxLength: 4 }).map((all) => all.join('/'))
  const bare = fc.oneof(
    names.map((path) => `/${path}`),
    names.map((path) => `nbd+unix://${path}`),
    fc.tuple(name, fc.nat(65_535)).map(([host, port]) => `${host}:${port}`),
  )
  const quoted = fc
    .tuple(names, fc.constantFrom('"', "'"))
    .map(([path, quote]) => `${quote}/${path} secret ${path}${quote}`)
  const word = fc.constantFrom('open', "can't", "isn't:", '(errno', 'said "no"', '…')
  fc.assert(
    fc.property(fc.array(fc.oneof(word, bare, quoted)), (words) => {
      expect(reasonForGuest(new Error(words.join(' ')))).not.toContain('secret')
    }),
  )
})

test('causes in a circle end', () => {
  const error = new Error('a')
  error.cause = error
  expect(reasonForGuest(error)).toBe('unexpected: Error: a')
})
