/** `BlockPlaces` and its `StretchTree`, compared with plain arrays. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BlockPlaces } from '../src/block-places.ts'
import { StretchTree } from '../src/stretch-tree.ts'

/** Generates ranges of `size` indices, many of which start or end at a multiple of `unit`. */
const stretches = (size: number, unit: number) => {
  const edge = fc.oneof(
    fc.nat(size),
    fc.nat(Math.floor(size / unit)).map((n) => n * unit),
    fc.constantFrom(0, size),
  )
  return fc.array(fc.record({ a: edge, b: edge, value: fc.nat(2) }), { maxLength: 30 })
}

test('a tree of stretches is an array, whose stretches have one value each', () => {
  fc.assert(
    fc.property(
      fc
        .integer({ min: 1, max: 20_000 })
        .chain((size) => fc.tuple(fc.constant(size), stretches(size, 64))),
      ([size, fills]) => {
        const tree = new StretchTree<number>(size)
        const model: (number | undefined)[] = Array.from({ length: size })
        for (const { a, b, value } of fills) {
          const [first, end, given] = [
            Math.min(a, b),
            Math.max(a, b),
            value === 0 ? undefined : value,
          ]
          tree.fill(first, end, given)
          model.fill(given, first, end)
        }
        for (let index = 0; index < size;) {
          const { value, end } = tree.at(index)
          expect(end).toBeGreaterThan(index)
          for (; index < Math.min(end, size); index++) {
            if (model[index] !== value) {
              expect.fail(`${index} has ${value}, expected ${model[index]}`)
            }
          }
        }
      },
    ),
  )
})

describe('places', () => {
  test('are an array', () => {
    fc.assert(
      fc.property(
        fc
          .integer({ min: 1, max: 9_000 })
          .chain((blocks) => fc.tuple(fc.constant(blocks), stretches(blocks, 1024))),
        ([blocks, marks]) => {
          const places = new BlockPlaces(blocks)
          const model = new Uint8Array(blocks)
          for (const { a, b, value } of marks) {
            const [first, end] = [Math.min(a, b), Math.max(a, b)]
            if (first === end) continue
            places.mark(first, end, value)
            model.fill(value, first, end)
          }
          for (let block = 0; block < blocks;) {
            const place = places.at(block)
            const end = places.end(block, blocks)
            expect(places.end(block, block + 1)).toBe(block + 1)
            for (let i = block; i < end; i++) {
              if (model[i] !== place) expect.fail(`${i} is in ${place}, expected ${model[i]}`)
            }
            if (end < blocks) expect(model[end]).not.toBe(place)
            block = end
          }
        },
      ),
    )
  })

  test('of the largest disk there is, in blocks of a sector', () => {
    const blocks = 2 ** 43
    const places = new BlockPlaces(blocks)
    places.mark(5, blocks, 2)
    places.mark(2 ** 42 + 1, 2 ** 42 + 3, 1)
    expect(
      [4, 5, 2 ** 42, 2 ** 42 + 1, 2 ** 42 + 2, 2 ** 42 + 3, blocks - 1].map((block) =>
        places.at(block),
      ),
    ).toEqual([0, 2, 2, 1, 1, 2, 2])
    expect([0, 5, 2 ** 42 + 1, 2 ** 42 + 3].map((block) => places.end(block, blocks))).toEqual([
      5,
      2 ** 42 + 1,
      2 ** 42 + 3,
      blocks,
    ])
  })
})
