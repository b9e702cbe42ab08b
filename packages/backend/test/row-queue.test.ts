import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RowQueue } from '@xenkit/backend'

test('rows leave in the order in which they came, however often they go round', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.option(fc.nat(63)), { maxLength: 60 }),
      (capacity, steps) => {
        const queue = new RowQueue(capacity)
        const model: number[] = []
        for (const row of steps) {
          if (row !== null && model.length < capacity) {
            queue.push(row)
            model.push(row)
          } else if (model.length > 0) {
            queue.shift()
            model.shift()
          }
          expect([queue.first(), queue.isEmpty()]).toEqual([model[0], model.length === 0])
        }
      },
    ),
  )
})
