import { expect, test } from 'vitest'
import { Owner } from '../src/index.ts'

function recorded(failing: string[] = []) {
  const closed: string[] = []
  const open = (name: string) => {
    let isOpen = true
    return {
      name,
      close() {
        if (!isOpen) return
        closed.push(name)
        if (failing.includes(name)) throw new Error(name)
        isOpen = false
      },
    }
  }
  return { closed, open }
}

test('closes what it owns, the last one first', () => {
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

test('tries again to close a resource that failed, such as pages that the other domain maps', () => {
  const failing = ['pages']
  const { closed, open } = recorded(failing)
  const owner = new Owner()
  for (const name of ['pages', 'channel']) owner.own(open(name))
  expect(() => owner.close()).toThrow('pages')
  expect(() => owner.close()).toThrow('pages')
  failing.length = 0
  owner.close()
  owner.close()
  expect(closed).toEqual(['channel', 'pages', 'pages', 'pages'])
})

test('closes all even if some fail, and throws the first error', () => {
  const { closed, open } = recorded(['b', 'a'])
  const owner = new Owner()
  for (const name of ['a', 'b', 'c']) owner.own(open(name))
  const close = (): void => owner.close()
  expect(close).toThrow(expect.objectContaining({ message: 'b', suppressed: [new Error('a')] }))
  expect(closed).toEqual(['c', 'b', 'a'])
})

test('closeEach returns the errors, for a caller that already has one to throw', () => {
  const { closed, open } = recorded(['c', 'a'])
  const owner = new Owner()
  for (const name of ['a', 'b', 'c']) owner.own(open(name))
  expect(owner.closeEach()).toEqual([new Error('c'), new Error('a')])
  expect(closed).toEqual(['c', 'b', 'a'])
  expect(new Owner().closeEach()).toEqual([])
})
