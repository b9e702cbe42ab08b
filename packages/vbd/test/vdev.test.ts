/** Names of disks and their devids, checked against the tables of xen-vbd-interface(7). */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseVdev, vdevName } from '../src/index.ts'

const LAST = 2 ** 29 - 1

const known: readonly [string, number][] = [
  ['xvda', 51712],
  ['xvda1', 51713],
  ['xvda15', 51727],
  ['xvdb', 51728],
  ['xvdp', 51952],
  ['xvdp15', 51967],
  // 1 << 28 | disk << 8 | partition, for disks or partitions from 16 on.
  ['xvda16', 2 ** 28 + 16],
  ['xvdb255', 2 ** 28 + 256 + 255],
  ['xvdq', 2 ** 28 + 16 * 256],
  ['xvdq1', 2 ** 28 + 16 * 256 + 1],
  ['xvdz', 2 ** 28 + 25 * 256],
  ['xvdaa', 2 ** 28 + 26 * 256],
  ['xvdzz', 2 ** 28 + 701 * 256],
  ['xvdaaa', 2 ** 28 + 702 * 256],
  ['hda', 768],
  ['hda63', 831],
  ['hdb', 832],
  ['hdc', 5632],
  ['hdd', 5696],
  ['hdd63', 5759],
  ['sda', 2048],
  ['sda15', 2063],
  ['sdb', 2064],
  ['sdp', 2288],
]

test.each(known)('%s is %i', (name, devid) => {
  expect(parseVdev(name)).toBe(devid)
  expect(vdevName(devid)).toBe(name)
  expect(parseVdev(String(devid))).toBe(devid)
})

test.each([
  '',
  'xvd',
  'vda',
  'XVDA',
  'xvda0',
  'xvda01',
  'xvda256',
  'hde',
  'hda64',
  'sdq',
  'sda16',
  'sdaa',
  'xvdzzzzz',
  ' xvda',
  'xvda\n',
  '-1',
  '1.5',
  '1e3',
  String(LAST + 1),
  '9'.repeat(40),
])('%j is no disk', (name) => {
  expect(() => parseVdev(name)).toThrow(RangeError)
})

describe('every number', () => {
  const devids = fc.oneof(
    fc.nat(LAST),
    fc.nat(0xffff),
    fc
      .constantFrom(3, 8, 22, 202)
      .chain((major) => fc.nat(255).map((minor) => major * 256 + minor)),
    fc.nat(5000).map((n) => 2 ** 28 + n),
    fc.nat(5000).map((n) => LAST - n),
  )

  test('has a name that is parsed back to it', () => {
    fc.assert(
      fc.property(devids, (devid) => void expect(parseVdev(vdevName(devid))).toBe(devid)),
      { numRuns: 5000 },
    )
  })

  test('of the majors that have names: each one round-trips', () => {
    for (const major of [3, 8, 22, 202]) {
      for (let minor = 0; minor < 256; minor++) {
        expect(parseVdev(vdevName(major * 256 + minor))).toBe(major * 256 + minor)
      }
    }
  })
})
