import { GrantError } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { afterEach, expect, test, vi } from 'vitest'
import { GrantTable, PersistentGrants } from '../src/index.ts'
import { twoDomains, UNGRANTED } from './domains.ts'

afterEach(() => vi.useRealTimers())

function caching(m: ReturnType<typeof twoDomains>, o: { readonly pages: number; readonly capacity: number }) {
  const front = new GrantTable(m.front.grants)
  const back = new GrantTable(m.back.grants)
  const { grefs, bytes } = front.share({ domid: m.back.domid, pages: o.pages, writable: true })
  const cache = new PersistentGrants(back, { domid: m.front.domid, capacity: o.capacity })
  const gref = (i: number): number => grefs[i] ?? -1
  return { front, back, cache, gref, bytes, use: (i: number) => cache.use(gref(i)) }
}

test('a page stays mapped from one use to the next', async () => {
  await using m = twoDomains()
  const { front, back, cache, bytes, use } = caching(m, { pages: 2, capacity: 4 })
  const first = use(0)
  if (!first) throw new Error('there is room')
  first.bytes[7] = 5
  expect(bytes[7]).toBe(5)
  cache.release(first)
  expect(back.stats.mappedPages).toBe(1)
  expect(use(0)).toBe(first)
  expect(back.stats.mappedPages).toBe(1)
  // In use, and gone with the cache all the same.
  cache.close()
  cache.close()
  expect(back.stats.mappedPages).toBe(0)
  expect(cache.size).toBe(0)
  front.close()
})

test('what can\'t be mapped writable is an error, and nothing is kept of it', async () => {
  await using m = twoDomains()
  const { front, back, cache } = caching(m, { pages: 1, capacity: 4 })
  const readOnly = front.share({ domid: m.back.domid, pages: 1, writable: false })
  for (const gref of [UNGRANTED, readOnly.grefs[0] ?? -1]) expect(() => cache.use(gref)).toThrow(GrantError)
  expect([cache.size, back.stats.mappedPages]).toEqual([0, 0])
  cache.close()
  front.close()
})

test('a full cache gives up what was used longest ago, a twentieth of it and one at least; nothing that is in use', async () => {
  await using m = twoDomains()
  const { front, cache, use, gref } = caching(m, { pages: 12, capacity: 3 })
  const grants = [0, 1, 2].map(use)
  expect(use(3)).toBeUndefined()
  for (const grant of [grants[1], grants[0]]) if (grant) cache.release(grant)
  // 1 was released first, 0 was used first.
  expect(use(3)?.gref).toBe(gref(3))
  expect(use(1)).toBe(grants[1])
  expect(use(0)).toBeUndefined()
  expect(cache.size).toBe(3)
  cache.close()
  front.close()
})

test('what was not used for a minute is unmapped, and then there is no timer', async () => {
  vi.useFakeTimers()
  await using m = twoDomains()
  const { front, back, cache, use } = caching(m, { pages: 3, capacity: 8 })
  const again = (i: number): void => {
    const grant = use(i)
    if (grant) cache.release(grant)
  }
  const held = use(2)
  again(0)
  again(1)
  expect(vi.getTimerCount()).toBe(1)
  vi.advanceTimersByTime(60_000)
  again(0)
  vi.advanceTimersByTime(60_000)
  expect(back.stats.mappedPages).toBe(2)
  vi.advanceTimersByTime(60_000)
  expect(back.stats.mappedPages).toBe(1)
  if (held) cache.release(held)
  vi.advanceTimersByTime(60_000)
  expect([cache.size, back.stats.mappedPages, vi.getTimerCount()]).toEqual([0, 0, 0])
  again(0)
  expect(vi.getTimerCount()).toBe(1)
  cache.close()
  expect(vi.getTimerCount()).toBe(0)
  front.close()
  vi.useRealTimers()
})

test('whatever is used and released: never more than the capacity, never a page of another reference, never one in use unmapped', async () => {
  await using m = twoDomains()
  const { front, back, cache, bytes, use } = caching(m, { pages: 40, capacity: 20 })
  for (let i = 0; i < 40; i++) bytes[i * 4096] = i
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(39), fc.boolean()), { maxLength: 200 }), (uses) => {
      const held: { readonly i: number; readonly grant: NonNullable<ReturnType<typeof use>> }[] = []
      for (const [i, release] of uses) {
        const grant = use(i)
        if (grant) held.push({ i, grant })
        else expect(new Set(held.map(({ grant: { gref } }) => gref)).size).toBe(20)
        if (release) {
          const going = held.shift()
          if (going) cache.release(going.grant)
        }
        for (const { i: page, grant: { bytes: seen } } of held) expect(seen[0]).toBe(page)
        expect(cache.size).toBeLessThanOrEqual(20)
        expect(back.stats.mappedPages).toBe(cache.size)
      }
      for (const { grant } of held) cache.release(grant)
    }),
  )
  cache.close()
  front.close()
})
