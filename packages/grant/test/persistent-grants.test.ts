import { type ArenaLimits, createMachine } from '@xenkit/sim'
import { GrantError } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { afterEach, expect, test, vi } from 'vitest'
import { ArenaShare, GrantTable, PersistentGrants } from '../src/index.ts'
import { UNGRANTED } from './support/domains.ts'

afterEach(() => vi.useRealTimers())

const unexpected = (error: unknown): never => expect.unreachable(String(error))

/** @param arena limits of the arena; by default as many mappings as pages */
function machine(arena: ArenaLimits = { mappings: 65_536 }) {
  const made = createMachine()
  const back = made.createDomain({ arena })
  const front = made.createDomain()
  return { back, front, [Symbol.asyncDispose]: () => made[Symbol.asyncDispose]() }
}

/** A cache for pages of a guest. Each page holds its own number. */
function caching(m: ReturnType<typeof machine>, o: { pages: number; capacity: number }) {
  const front = new GrantTable(m.front.grants)
  const share = new ArenaShare(m.back.arena, m.front.domid)
  const back = new GrantTable(m.back.grants, share)
  const { grefs, bytes } = front.share({ domid: m.back.domid, pages: o.pages, writable: true })
  for (let i = 0; i < o.pages; i++) bytes[i * 4096] = i
  const { domid } = m.front
  const { capacity } = o
  const cache = new PersistentGrants(back, share, { domid, capacity, failed: unexpected })
  const gref = (i: number): number => grefs[i] ?? -1
  return {
    front,
    share,
    back,
    cache,
    bytes,
    gref,
    add: (...pages: number[]) => cache.add(pages.map(gref)),
    has: (i: number) => cache.find(gref(i)) !== undefined,
    /** @returns the place to pass to `end`, and the page's offset in the arena */
    use(i: number) {
      const place = cache.find(gref(i))
      if (place === undefined) throw new Error(`page ${i} is not there`)
      return { place, byteOffset: cache.use(place) }
    },
    /** Returns the first byte of a page as the backend sees it. */
    first: (byteOffset: number) => new Uint8Array(m.back.arena.buffer)[byteOffset],
    end() {
      cache.close()
      share.close()
      front.close()
    },
  }
}

test('a page stays mapped from one use to the next', async () => {
  await using m = machine()
  const { cache, back, share, bytes, add, use, end } = caching(m, { pages: 2, capacity: 4 })
  expect(add(0)).toBe(true)
  const { place, byteOffset } = use(0)
  new Uint8Array(m.back.arena.buffer)[byteOffset + 7] = 5
  expect(bytes[7]).toBe(5)
  cache.end(place)
  expect([back.stats.mappedPages, share.cached]).toEqual([1, 1])
  expect(use(0).byteOffset).toBe(byteOffset)
  // Closing the cache unmaps a page even while it is in use.
  cache.close()
  cache.close()
  expect([back.stats.mappedPages, cache.size, share.cached]).toEqual([0, 0, 0])
  end()
})

test('pages added together are one mapping, and are evicted together', async () => {
  await using m = machine()
  const { cache, back, add, use, has, end } = caching(m, { pages: 8, capacity: 4 })
  add(3, 1, 2)
  expect(back.stats).toMatchObject({ mappings: 1, mappedPages: 3 })
  const { place } = use(1)
  // No room: all runs have a page in use, so none can be evicted.
  expect(add(4, 5)).toBe(false)
  cache.end(place)
  expect(add(4, 5)).toBe(true)
  expect([1, 2, 3, 4, 5].map(has)).toEqual([false, false, false, true, true])
  expect(back.stats).toMatchObject({ mappings: 1, mappedPages: 2 })
  end()
})

test("a page that can't be mapped writable is an error, and nothing stays cached", async () => {
  await using m = machine()
  const { front, cache, share, back, gref, end } = caching(m, { pages: 1, capacity: 4 })
  const readOnly = front.share({ domid: m.back.domid, pages: 1, writable: false })
  for (const bad of [UNGRANTED, readOnly.grefs[0] ?? -1]) {
    for (const grefs of [[bad], [gref(0), bad]]) expect(() => cache.add(grefs)).toThrow(GrantError)
  }
  expect([cache.size, share.cached, back.stats.mappedPages]).toEqual([0, 0, 0])
  end()
})

test('a full cache evicts the least recently used twentieth, but nothing in use', async () => {
  await using m = machine()
  const { cache, add, use, has, end } = caching(m, { pages: 60, capacity: 40 })
  for (let i = 0; i < 40; i++) add(i)
  const uses = [0, 2].map(use)
  expect(add(40)).toBe(true)
  expect([0, 1, 2, 3, 4].map(has)).toEqual([true, false, true, false, true])
  // One of the cache's places is free, so page 41 evicts nothing.
  add(41)
  expect([4, 5].map(has)).toEqual([true, true])
  for (const { place } of uses) cache.end(place)
  end()
})

test('pages unused for a minute are unmapped, and an empty cache has no timer', async () => {
  vi.useFakeTimers()
  await using m = machine()
  const { cache, back, add, use, end } = caching(m, { pages: 3, capacity: 8 })
  for (const i of [0, 1, 2]) add(i)
  const again = (i: number): void => cache.end(use(i).place)
  const held = use(2)
  expect(vi.getTimerCount()).toBe(1)
  vi.advanceTimersByTime(60_000)
  again(0)
  vi.advanceTimersByTime(60_000)
  expect(back.stats.mappedPages).toBe(2)
  vi.advanceTimersByTime(60_000)
  // Only page 2, which is in use, stays mapped.
  expect(back.stats.mappedPages).toBe(1)
  cache.end(held.place)
  vi.advanceTimersByTime(60_000)
  expect([cache.size, back.stats.mappedPages, vi.getTimerCount()]).toEqual([0, 0, 0])
  add(0)
  expect(vi.getTimerCount()).toBe(1)
  cache.close()
  expect(vi.getTimerCount()).toBe(0)
  end()
  vi.useRealTimers()
})

/** One step: add pages, use one, or end a use. */
const step = fc.oneof(
  fc.record({ add: fc.uniqueArray(fc.nat(39), { minLength: 1, maxLength: 8 }) }),
  fc.record({ use: fc.nat(39) }),
  fc.record({ end: fc.nat(7) }),
  fc.record({ reclaim: fc.nat(12) }),
)

/**
 * The number of pages stays within the capacity, each place belongs to one reference, and a page in
 * use stays mapped.
 */
test('the invariants hold for any order of add, use, end and reclaim', async () => {
  await using m = machine()
  const made = caching(m, { pages: 40, capacity: 20 })
  const { cache, share, back, gref, add, use, has, first, end } = made
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const held: { readonly i: number; readonly place: number; readonly byteOffset: number }[] = []
      for (const it of steps) {
        if ('use' in it && has(it.use)) held.push({ i: it.use, ...use(it.use) })
        if ('end' in it) for (const { place } of held.splice(it.end, 1)) cache.end(place)
        if ('add' in it) {
          const missing = it.add.filter((i) => !has(i))
          const busy = new Set(held.map(({ place }) => place)).size
          const added = missing.length > 0 && add(...missing)
          // While no page is in use there is always room.
          if (missing.length > 0 && busy === 0) expect(added).toBe(true)
          if (added) expect(missing.every(has)).toBe(true)
        }
        if ('reclaim' in it) {
          const before = share.cached
          share.reclaim(it.reclaim)
          const most = Math.max(0, before - it.reclaim)
          if (held.length === 0) expect(share.cached).toBeLessThanOrEqual(most)
          if (it.reclaim === 0) expect(share.cached).toBe(before)
        }
        for (const { i, place, byteOffset } of held) {
          expect([cache.find(gref(i)), first(byteOffset)]).toEqual([place, i])
        }
        expect(cache.size).toBeLessThanOrEqual(20)
        expect([back.stats.mappedPages, share.cached]).toEqual([cache.size, cache.size])
      }
      for (const { place } of held) cache.end(place)
    }),
  )
  end()
})

test('a small mapping is charged an equal part of the arena', async () => {
  await using m = machine({ pages: 64, mappings: 16 })
  const { cache, share, add, use, has, end } = caching(m, { pages: 40, capacity: 40 })
  const held: number[] = []
  // Cached pages may take half of the arena. Each mapping is charged as 4 pages here, so 8 fit.
  for (let i = 0; i < 8; i++) {
    expect(add(i)).toBe(true)
    held.push(use(i).place)
  }
  expect([share.cached, add(8)]).toEqual([32, false])
  cache.end(held[3] ?? -1)
  expect([add(8, 9, 10, 11), has(3), share.cached]).toEqual([true, false, 32])
  end()
})
