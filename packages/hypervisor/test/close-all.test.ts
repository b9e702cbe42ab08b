import { expect, test } from 'vitest'
import { closeAll, failuresOf, firstOf } from '../src/index.ts'

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

test('a thrown undefined is thrown again', () => {
  const thrown: unknown[] = []
  const throws = {
    close: () => {
      throw undefined
    },
  }
  try {
    closeAll([throws, { close() {} }])
  } catch (error) {
    thrown.push(error)
  }
  expect(thrown).toEqual([undefined])
})

test('firstOf returns the first error itself, with the later ones as its suppressed', async () => {
  const [first, second] = [new TypeError('first'), new Error('second')]
  const ending = [Promise.reject(second), Promise.resolve(), Promise.reject(undefined)]
  const failures = await failuresOf(ending)
  expect(failures).toEqual([second, undefined])
  expect(firstOf([first, ...failures])).toBe(first)
  expect(first).toMatchObject({ message: 'first', suppressed: [second, undefined] })
  expect(firstOf([second])).not.toHaveProperty('suppressed')
  expect(firstOf([Object.freeze(new Error('frozen')), first])).toMatchObject({ message: 'frozen' })
  expect(firstOf([undefined, first])).toBeUndefined()
})
