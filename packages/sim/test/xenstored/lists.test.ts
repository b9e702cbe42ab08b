/** DIRECTORY_PART, which reads in parts a list of children that doesn't fit into one message. */
import { XENSTORE_PAYLOAD_MAX, XS } from '@xenkit/wire'
import * as fc from 'fast-check'
import { beforeEach, expect, test } from 'vitest'
import { type RawXenstore, startXenstored } from '../support/raw-xenstore.ts'

let dom0: RawXenstore
beforeEach(async () => {
  ;({ dom0 } = await startXenstored())
})

const part = async (
  path: string,
  offset: number | string,
  txId = 0,
): Promise<{ generation: string; names: string }> => {
  const [, generation = '', names = ''] =
    /^(\d+)\|(.*)$/s.exec(await dom0.ask(XS.DIRECTORY_PART, `${path}|${offset}|`, txId)) ?? []
  return { generation, names }
}

test('the list ends with an empty name, from any offset', async () => {
  for (const name of ['a', 'bb', 'c']) await dom0.mkdir(`/d/${name}`)
  const parts = await Promise.all(
    [0, 2, 1, 3, 7, 8, 1000, -1, 'x'].map(async (offset) => (await part('/d', offset)).names),
  )
  expect(parts).toEqual(['a|bb|c||', 'bb|c||', '|bb|c||', 'b|c||', '|', '|', '|', '|', 'a|bb|c||'])
  expect((await part('/d/a', 0)).names).toBe('|')
})

test.each([
  ['/d|', 'EINVAL'],
  ['/d|0', 'EINVAL'],
  ['/d|0|0|', 'EINVAL'],
  ['|0|', 'EINVAL'],
  ['/d/|0|', 'EINVAL'],
  ['/none|0|', 'ENOENT'],
])('"%s" is %s', async (payload, answer) => {
  await dom0.mkdir('/d')
  expect(await dom0.ask(XS.DIRECTORY_PART, payload)).toBe(answer)
})

test('the generation shows whether two parts belong to one list', async () => {
  await dom0.mkdir('/d/a')
  const generations = [(await part('/d', 0)).generation, (await part('/d', 0)).generation]
  await dom0.write('/other', '')
  generations.push((await part('/d', 0)).generation)
  expect(new Set(generations).size).toBe(1)
  await dom0.mkdir('/d/b')
  generations.push((await part('/d', 0)).generation)
  const tx = await dom0.begin()
  generations.push((await part('/d', 0, tx)).generation)
  await dom0.mkdir('/d/c', tx)
  generations.push((await part('/d', 0, tx)).generation)
  expect(new Set(generations.slice(2)).size).toBe(3)
  expect(await dom0.end(tx)).toBe('OK|')
})

test.each([
  [0, 1],
  [1, 2],
])('a list with %d bytes more than fit comes in %d parts', async (more, parts) => {
  const names = Array.from({ length: 40 }, (_, i) => String(i).padStart(99, 'n'))
  await Promise.all(names.map((name) => dom0.mkdir(`/d/${name}`)))
  // A message holds the generation, the names, and the empty name that ends the list, each with
  // NUL.
  const room = XENSTORE_PAYLOAD_MAX - ((await part('/d', 0)).generation.length + 1) - 1
  const last = 'l'.repeat(room + more - 4000 - 1)
  await dom0.mkdir(`/d/${last}`)
  const first = await part('/d', 0)
  expect(first.names.endsWith(`|${last}||`)).toBe(parts === 1)
  expect(first.names.length).toBe(parts === 1 ? room + 1 : 4000)
  expect((await part('/d', 4000)).names).toBe(`${last}||`)
})

test('any list is returned completely, with whole names, in the fewest parts possible', async () => {
  const name = fc.string({ unit: fc.constantFrom(...'abcdefghij'), minLength: 1, maxLength: 200 })
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(name, { minLength: 1, maxLength: 300, size: 'max' }),
      async (names) => {
        const { dom0: client } = await startXenstored()
        dom0 = client
        await Promise.all(names.map((one) => dom0.mkdir(`/d/${one}`)))
        let list = ''
        for (;;) {
          const { generation, names: more } = await part('/d', list.length)
          const isLast = more.endsWith('||') || more === '|'
          list += isLast ? more.slice(0, -1) : more
          if (isLast) break
          const next = names[list.split('|').length - 1] ?? ''
          // The part ends where the next child's name, plus the empty name that could end the list,
          // would have exceeded the message.
          expect(generation.length + 1 + more.length + next.length + 1 + 1).toBeGreaterThan(
            XENSTORE_PAYLOAD_MAX,
          )
        }
        expect(list).toBe(names.map((one) => `${one}|`).join(''))
      },
    ),
    { numRuns: 30 },
  )
})
