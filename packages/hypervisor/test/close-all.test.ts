import { expect, test } from 'vitest'
import { closeAll } from '../src/index.ts'

const sets = [[[]], [[0]], [[1]], [[0, 1, 2]], [[2]]]

test.each(sets)('all are closed once though %j fail; the first failure is thrown', (failing) => {
  const closed: number[] = []
  const all = [0, 1, 2].map((i) => ({
    close() {
      closed.push(i)
      if (failing.includes(i)) throw new Error(`number ${i}`)
    },
  }))
  const close = (): void => closeAll(all)
  if (failing.length === 0) close()
  else expect(close).toThrow(`number ${failing[0]}`)
  expect(closed).toEqual([0, 1, 2])
})

test('what was thrown is thrown, were it undefined', () => {
  const thrown: unknown[] = []
  const throws = { close: () => { throw undefined } }
  try {
    closeAll([throws, { close() {} }])
  } catch (error) {
    thrown.push(error)
  }
  expect(thrown).toEqual([undefined])
})
