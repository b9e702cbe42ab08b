/** `parseNbdUri`: the parts of correct URIs, and the errors for all others. */
import { expect, test } from 'vitest'
import { parseNbdUri } from '../../src/nbd/uri.ts'

test.each([
  [
    'nbd://example.com',
    { address: { host: 'example.com', port: 10809 }, exportName: '', tls: false },
  ],
  [
    'nbd://example.com/',
    { address: { host: 'example.com', port: 10809 }, exportName: '', tls: false },
  ],
  [
    'nbd://example.com:1234/disk',
    { address: { host: 'example.com', port: 1234 }, exportName: 'disk', tls: false },
  ],
  [
    'nbds://example.com/disk',
    { address: { host: 'example.com', port: 10809 }, exportName: 'disk', tls: true },
  ],
  [
    'nbd://example.com//disk',
    { address: { host: 'example.com', port: 10809 }, exportName: '/disk', tls: false },
  ],
  [
    'nbd://example.com/hello%20world',
    { address: { host: 'example.com', port: 10809 }, exportName: 'hello world', tls: false },
  ],
  [
    'nbd://127.0.0.1/%C3%BC',
    { address: { host: '127.0.0.1', port: 10809 }, exportName: 'ü', tls: false },
  ],
  ['nbd://[::1]:1/x', { address: { host: '::1', port: 1 }, exportName: 'x', tls: false }],
  [
    'nbd+unix:///disk?socket=nbd.sock',
    { address: { path: 'nbd.sock' }, exportName: 'disk', tls: false },
  ],
  [
    'nbd+unix:///?socket=/run/a+b%20c%3Dd.sock',
    { address: { path: '/run/a+b c=d.sock' }, exportName: '', tls: false },
  ],
  ['nbd+unix://?socket=/run/x=y', { address: { path: '/run/x=y' }, exportName: '', tls: false }],
  ['nbds+unix:///a/b?socket=/s', { address: { path: '/s' }, exportName: 'a/b', tls: true }],
])('%s', (uri, target) => expect(parseNbdUri(uri)).toEqual({ uri, ...target }))

test.each([
  ['', /expected nbd:\/\/HOST:PORT\/EXPORT or nbd\+unix/],
  ['disk.img', /expected nbd:\/\//],
  ['http://example.com/disk', /scheme "http" expected nbd, nbds/],
  ['nbd+vsock://1/disk', /scheme "nbd\+vsock" expected/],
  ['nbd:///disk', /names no host/],
  ['nbd://host:99999/', /expected nbd:\/\//],
  ['nbd://me@host/', /a user is not supported/],
  ['nbd://host/?socket=/s', /"socket" belongs to nbd\+unix/],
  ['nbd+unix:///disk', /needs "\?socket=PATH"/],
  ['nbd+unix:///disk?socket=', /needs "\?socket=PATH"/],
  ['nbd+unix://host/disk?socket=/s', /host "host" has no place/],
  ['nbd://host/?tls-type=psk', /"tls-type" isn't known.*option "tls"/],
  ['nbd://host/%ff', /isn't percent-encoded UTF-8/],
])('%s is refused', (uri, says) => {
  expect(() => parseNbdUri(uri)).toThrow(TypeError)
  expect(() => parseNbdUri(uri)).toThrow(says)
})
