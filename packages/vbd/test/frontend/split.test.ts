/** Transfers split into requests: no byte lost or repeated, no request too large. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { split } from '../../src/frontend/split.ts'

const WHOLE = { limit: 88 * 512, unit: 512 }

/** Buffers of any length, some empty, that are whole sectors together. */
const buffers = fc
  .array(
    fc.oneof(
      fc.nat(3000),
      fc.integer({ min: 1, max: 120 }).map((n) => n * 512),
      fc.constant(0),
    ),
    { maxLength: 8 },
  )
  .map((lengths) => {
    const rest = lengths.reduce((sum, length) => sum + length, 0) % 512
    return [...lengths, ...(rest === 0 ? [] : [512 - rest])].map((length) => new Uint8Array(length))
  })

test('the pieces are the buffers in order, cut into full requests', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 40), buffers, fc.constantFrom(1, 88, 2048), (sector, whole, limit) => {
      let n = 0
      for (const buffer of whole) {
        for (let at = 0; at < buffer.length; at++) buffer[at] = (n++ * 7) & 255
      }
      const pieces = split(sector, whole, { limit: limit * 512, unit: 512 })
      expect(
        Buffer.compare(Buffer.concat(pieces.flatMap(({ data }) => data)), Buffer.concat(whole)),
      ).toBe(0)
      let next = sector
      for (const [i, piece] of pieces.entries()) {
        expect(piece.sector).toBe(next)
        expect(piece.bytes).toBe(piece.data.reduce((sum, { length }) => sum + length, 0))
        if (i < pieces.length - 1) expect(piece.bytes).toBe(limit * 512)
        else expect(piece.bytes).toBeGreaterThan(0)
        expect(piece.bytes).toBeLessThanOrEqual(limit * 512)
        expect(piece.bytes % 512).toBe(0)
        next += piece.bytes / 512
      }
      // The pieces are views: a write to one changes the caller's buffer.
      for (const { data } of pieces) {
        for (const part of data) {
          expect(whole.some(({ buffer }) => buffer === part.buffer)).toBe(true)
        }
      }
    }),
  )
})

test.each([[[1]], [[511]], [[512, 1]], [[100, 100]]])(
  'buffers of %j bytes are no whole sectors',
  (lengths) => {
    expect(() =>
      split(
        0,
        lengths.map((length) => new Uint8Array(length)),
        WHOLE,
      ),
    ).toThrow(RangeError)
  },
)

test('an empty transfer makes no request', () => {
  expect(split(5, [], WHOLE)).toEqual([])
  expect(split(5, [new Uint8Array()], WHOLE)).toEqual([])
})

test.each([
  [1, 8],
  [8, 1],
  [4, 4],
])('sectors of 4096 bytes: %i and %i of 512 are no whole ones', (sector, count) => {
  expect(() =>
    split(sector, [new Uint8Array(count * 512)], { limit: 88 * 512, unit: 4096 }),
  ).toThrow(RangeError)
})

test.each([-1, 0.5, 2 ** 44])('sector %d is refused', (sector) => {
  expect(() => split(sector, [new Uint8Array(512)], WHOLE)).toThrow(/"sector"/)
})
