import { expect, test } from 'vitest'
import { Owner } from '../src/index.ts'

function recorded(failing: readonly string[] = []) {
  const closed: string[] = []
  const open = (name: string) => ({
    name,
    close() {
      closed.push(name)
      if (failing.includes(name)) throw new Error(name)
    },
  })
  return { closed, open }
}

test('closes what it owns once, the last one first', () => {
  const { closed, open } = recorded()
  const owner = new Owner()
  expect(owner.own(open('pages')).name).toBe('pages')
  owner.own(open('channel'))
  owner.close()
  owner.close()
  expect(closed).toEqual(['channel', 'pages'])
  owner.own(open('more'))
  owner[Symbol.dispose]()
  expect(closed).toEqual(['channel', 'pages', 'more'])
})

test('closes all though some fail, and throws the first of their errors', () => {
  const { closed, open } = recorded(['b', 'a'])
  const owner = new Owner()
  for (const name of ['a', 'b', 'c']) owner.own(open(name))
  const close = (): void => owner.close()
  expect(close).toThrow(expect.objectContaining({ message: 'b', suppressed: [new Error('a')] }))
  expect(closed).toEqual(['c', 'b', 'a'])
})

test('gives back the error that it closes for, with what could not be closed', () => {
  const { closed, open } = recorded(['b'])
  const owner = new Owner()
  for (const name of ['a', 'b']) owner.own(open(name))
  const error = new TypeError('why')
  expect(owner.closeAfter(error)).toBe(error)
  expect(error).toMatchObject({ suppressed: [new Error('b')] })
  expect(closed).toEqual(['b', 'a'])
  expect(new Owner().closeAfter(undefined)).toBeUndefined()
})
