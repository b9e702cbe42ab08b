import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  formatXsPermissions,
  parseXsPermissions,
  type XsAccess,
  xsPathFault,
  xsWatchPathFault,
} from '../src/index.ts'

const access = fc.constantFrom<XsAccess>('none', 'read', 'write', 'both')
const domid = fc.integer()

test('permissions survive formatting and parsing', () => {
  fc.assert(
    fc.property(
      fc.record({
        owner: domid,
        access,
        acl: fc.array(fc.record({ domid, access }), { maxLength: 5 }),
      }),
      (permissions) => {
        expect(
          parseXsPermissions(formatXsPermissions(permissions).split('\0').slice(0, -1)),
        ).toEqual(permissions)
      },
    ),
  )
})

test('permissions are sent as letters and domids', () => {
  expect(
    formatXsPermissions({
      owner: 5,
      access: 'none',
      acl: [
        { domid: 0, access: 'read' },
        { domid: 7, access: 'write' },
        { domid: 8, access: 'both' },
      ],
    }),
  ).toBe('n5\0r0\0w7\0b8\0')
})

test.each([
  [[]],
  [['']],
  [['x1']],
  [['r']],
  [['r-']],
  [['r1 ']],
  [['r1', 'q2']],
  [['r12345678901']],
  [['R1']],
])('%j are no permissions', (entries) => {
  expect(parseXsPermissions(entries)).toBeUndefined()
})

test.each([
  '/',
  '/a',
  '/a/b-c_D/0@x',
  'device/vbd/51712',
  `/${'a'.repeat(3071)}`,
  'a'.repeat(2048),
])('path: case %#', (path) => {
  expect(xsPathFault(path)).toBeUndefined()
})

test.each([
  ['', 'empty'],
  ['/a/', 'slash'],
  ['a/', 'slash'],
  ['//', 'slash'],
  ['/a//b', 'two slashes'],
  ['/a b', 'character'],
  ['/a.b', 'character'],
  ['/a\0', 'character'],
  ['/é', 'character'],
  ['@releaseDomain', 'special'],
  [`/${'a'.repeat(3072)}`, '3072'],
  ['a'.repeat(2049), '2048'],
])('no path: case %#', (path, fault) => {
  expect(xsPathFault(path)).toContain(fault)
})

test('special paths may be watched', () => {
  expect(xsWatchPathFault('@releaseDomain')).toBeUndefined()
  expect(xsWatchPathFault('@introduceDomain/5')).toBeUndefined()
  expect(xsWatchPathFault('@a//b')).toContain('two slashes')
  expect(xsWatchPathFault('/a/')).toContain('slash')
})
