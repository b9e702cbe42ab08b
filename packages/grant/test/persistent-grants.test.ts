import { GrantError } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { afterEach, expect, test, vi } from 'vitest'
import { GrantTable, PersistentGrants } from '../src/index.ts'
import { twoDomains, UNGRANTED } from './domains.ts'

afterEach(() => vi.useRealTimers())

/** A use of a page that has not ended. */
interface Use {
  readonly i: number
  readonly byteOffset: number
  /** Of the cache, before. */
  readonly uses: number
}

function caching(m: ReturnType<typeof twoDomains>, o: { readonly pages: number; readonly capacity: number }) {
  const front = new GrantTable(m.front.grants)
  const back = new GrantTable(m.back.grants)
  const { grefs, bytes } = front.share({ domid: m.back.domid, pages: o.pages, writable: true })
  const held = new Set<Use>()
  const allEnded = (): number => Math.min(...[...held].map(({ uses }) => uses))
  const failed = (error: unknown): never => expect.unreachable(String(error))
  const { domid } = m.front
  const cache = new PersistentGrants(back, { domid, capacity: o.capacity, allEnded, failed })
  const use = (i: number): Use | undefined => {
    const { uses } = cache
    const byteOffset = cache.use(grefs[i] ?? -1)
    if (byteOffset === undefined) return undefined
    const made = { i, byteOffset, uses }
    held.add(made)
    return made
  }
  const end = (made: Use | undefined): void => {
    if (made === undefined || !held.delete(made)) throw new Error('not in use')
  }
  /** The first byte of a page as the backend has it. */
  const first = (byteOffset: number): number | undefined => new Uint8Array(m.back.arena.buffer)[byteOffset]
  return { front, back, cache, bytes, held, use, end, first }
}

test('a page stays mapped from one use to the next', async () => {
  await using m = twoDomains()
  const { front, back, cache, bytes, use, end } = caching(m, { pages: 2, capacity: 4 })
  const first = use(0)
  if (!first) throw new Error('there is room')
  new Uint8Array(m.back.arena.buffer)[first.byteOffset + 7] = 5
  expect(bytes[7]).toBe(5)
  end(first)
  expect(back.stats.mappedPages).toBe(1)
  expect(use(0)?.byteOffset).toBe(first.byteOffset)
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

test('a full cache gives up what was used longest ago, a twentieth of it and one at least; nothing that may be in use', async () => {
  await using m = twoDomains()
  const { front, cache, use, end } = caching(m, { pages: 12, capacity: 3 })
  const uses = [0, 1, 2].map(use)
  expect(use(3)).toBeUndefined()
  // What was used after a use that lasts stays, whether that has ended or not.
  end(uses[1])
  expect(use(3)).toBeUndefined()
  end(uses[0])
  expect([use(3), use(0)]).not.toContain(undefined)
  expect(use(1)).toBeUndefined()
  end(uses[2])
  expect(use(2)?.byteOffset).toBe(uses[2]?.byteOffset)
  expect(cache.size).toBe(3)
  cache.close()
  front.close()
})

test('while a use lasts that is in the way, room is looked for again when as many have ended as one look is to find', async () => {
  await using m = twoDomains()
  const { front, cache, use, end } = caching(m, { pages: 60, capacity: 40 })
  const uses = Array.from({ length: 40 }, (_, i) => use(i))
  expect(use(40)).toBeUndefined()
  end(uses[0])
  expect(use(40)).toBeUndefined()
  end(uses[1])
  const [next, after] = [use(40), use(41)]
  expect([next, after]).not.toContain(undefined)
  expect(use(42)).toBeUndefined()
  for (const made of [...uses.slice(2), next, after]) end(made)
  expect(use(42)).toBeDefined()
  cache.close()
  front.close()
})

test('what was not used for a minute is unmapped, and then there is no timer', async () => {
  vi.useFakeTimers()
  await using m = twoDomains()
  const { front, back, cache, use, end } = caching(m, { pages: 3, capacity: 8 })
  const again = (i: number): void => end(use(i))
  again(0)
  again(1)
  const held = use(2)
  expect(vi.getTimerCount()).toBe(1)
  vi.advanceTimersByTime(60_000)
  again(0)
  vi.advanceTimersByTime(60_000)
  expect(back.stats.mappedPages).toBe(2)
  // 0 was used after 2, which may be in use.
  vi.advanceTimersByTime(60_000)
  expect(back.stats.mappedPages).toBe(2)
  end(held)
  vi.advanceTimersByTime(60_000)
  expect([cache.size, back.stats.mappedPages, vi.getTimerCount()]).toEqual([0, 0, 0])
  again(0)
  expect(vi.getTimerCount()).toBe(1)
  cache.close()
  expect(vi.getTimerCount()).toBe(0)
  front.close()
  vi.useRealTimers()
})

test('whatever is used, and whenever that ends: never more than the capacity, never a page of another reference, never one in use unmapped', async () => {
  await using m = twoDomains()
  const { front, back, cache, bytes, held, use, end, first } = caching(m, { pages: 40, capacity: 20 })
  for (let i = 0; i < 40; i++) bytes[i * 4096] = i
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(39), fc.option(fc.nat(7))), { maxLength: 200 }), (steps) => {
      for (const [i, ends] of steps) {
        const made = use(i)
        // Somebody is in the way only where that many pages were used since the oldest use that lasts.
        if (made === undefined) expect(cache.uses - Math.min(...[...held].map(({ uses }) => uses))).toBeGreaterThanOrEqual(20)
        const going = ends === null ? undefined : [...held][ends]
        if (going) end(going)
        for (const { i: page, byteOffset } of held) expect(first(byteOffset)).toBe(page)
        expect(cache.size).toBeLessThanOrEqual(20)
        expect(back.stats.mappedPages).toBe(cache.size)
      }
      for (const made of held) end(made)
    }),
  )
  cache.close()
  front.close()
})
