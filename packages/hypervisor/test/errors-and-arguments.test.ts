import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  EvtchnError,
  GrantError,
  NegotiationError,
  PeerError,
  XenError,
  XenstoreError,
  expectInteger,
} from '../src/index.ts'

describe('expectInteger', () => {
  test('accepts the range, both ends included', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(), fc.nat(), (min, size, offset) => {
        const [max, value] = [min + size, min + (size === 0 ? 0 : offset % (size + 1))]
        expect(() => expectInteger('n', value, min, max)).not.toThrow()
        expect(() => expectInteger('n', min - 1, min, max)).toThrow(RangeError)
        expect(() => expectInteger('n', max + 1, min, max)).toThrow(RangeError)
      }),
    )
  })

  test.each([1.5, Number.NaN, Number.POSITIVE_INFINITY])(
    '%d is a TypeError that names the argument',
    (value) => {
      expect(() => expectInteger('devid', value, 0, 9)).toThrow(
        new TypeError(`"devid" expected an integer 0..9, got ${value}`),
      )
    },
  )
})

test('errors are known by class, code and details', () => {
  const grant = new GrantError('text', { status: -3, gref: 8 })
  expect(grant).toMatchObject({
    name: 'GrantError',
    message: 'text',
    code: 'ERR_XEN_GRANT',
    details: { status: -3, gref: 8 },
    status: -3,
  })
  expect(grant).toBeInstanceOf(XenError)
  expect(grant).not.toBeInstanceOf(PeerError)
  expect(
    new NegotiationError('text', { node: 'n', value: undefined, expected: 'e' }),
  ).toBeInstanceOf(PeerError)
  expect(new EvtchnError('text', { errno: 'EINVAL' }).errno).toBe('EINVAL')
  expect(new XenstoreError('text', { errno: 'ENOENT' }).errno).toBe('ENOENT')
})
