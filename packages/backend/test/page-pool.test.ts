import { ArenaShare } from '@xenkit/grant'
import { type Arena, ArenaFullError, PAGE_SIZE } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Buffer, PagePool } from '@xenkit/backend'

const SIZES = { small: 64, large: 256, maxLarge: 4 }

beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => vi.useRealTimers())

/** An arena of `extents` large extents. */
function arenaOf(extents: number) {
  let open = 0
  let next = 0
  const buffer = new ArrayBuffer(0)
  const arena: Arena = {
    buffer,
    pages: 65_536,
    mappings: 65_536,
    tenants: new Set(),
    waiting: new Set(),
    allocate(pages) {
      if (open === extents) throw new ArenaFullError('the arena is full', { domid: 0, pages })
      open++
      const close = (): void => void open--
      return {
        byteOffset: next++ * 2 ** 24,
        bytes: new Uint8Array(pages * PAGE_SIZE),
        close,
        [Symbol.dispose]: close,
      }
    },
    hold: () => expect.unreachable('nothing is abandoned'),
  }
  return { arena, open: () => open }
}

const mib = 2 ** 20
const nobody = (): void => {}
const unexpected = (error: unknown): never => expect.unreachable(String(error))

test('runs never overlap and have the length that was asked for, in any order of calls', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: mib }), fc.nat(5)), { maxLength: 80 }),
      (takes) => {
        const { arena, open } = arenaOf(9)
        const pool = new PagePool(new ArenaShare(arena, 1), SIZES, unexpected)
        const lent: { readonly from: number; readonly to: number; readonly buffer: Buffer }[] = []
        for (const [bytes, given] of takes) {
          const buffer = pool.take(bytes, nobody)
          if (buffer) {
            const from = buffer.extent.byteOffset(buffer.first)
            const to = from + Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE
            expect(buffer.extent.view(buffer.first, bytes)).toHaveLength(bytes)
            for (const other of lent) expect(to <= other.from || other.to <= from).toBe(true)
            lent.push({ from, to, buffer })
          } else {
            // It may refuse only if each extent has less free than the largest request.
            expect(pool.pages).toBeGreaterThanOrEqual(4 * 256)
          }
          for (let n = given; n > 0; n--) {
            const going = lent.shift()
            if (going) pool.give(going.buffer)
          }
        }
        for (const { buffer } of lent) pool.give(buffer)
        pool.forget(nobody)
        expect(pool.take(mib, nobody)).toBeDefined()
        pool.close()
        expect(open()).toBe(0)
      },
    ),
  )
})

test('an idle pool has no pages and no timer', () => {
  const { arena, open } = arenaOf(9)
  const pool = new PagePool(new ArenaShare(arena, 1), SIZES, unexpected)
  expect([open(), vi.getTimerCount()]).toEqual([0, 0])
  const [first, second] = [pool.take(mib, nobody), pool.take(512, nobody)]
  expect([open(), vi.getTimerCount()]).toEqual([2, 1])
  if (first) pool.give(first)
  vi.advanceTimersByTime(3_000)
  // The other request is still at the store.
  expect(open()).toBe(1)
  if (second) pool.give(second)
  vi.advanceTimersByTime(3_000)
  expect([open(), vi.getTimerCount()]).toEqual([0, 0])
  pool.take(512, nobody)
  pool.close()
  expect([open(), vi.getTimerCount()]).toEqual([0, 0])
})

test('waiting callers are served in order, before later ones', async () => {
  const { arena } = arenaOf(9)
  const pool = new PagePool(new ArenaShare(arena, 1), SIZES, unexpected)
  const buffers = Array.from({ length: 4 }, () => pool.take(mib, nobody))
  const woken: string[] = []
  const [large, small] = [
    (): void => void woken.push('large'),
    (): void => void woken.push('small'),
  ]
  expect(pool.take(mib, large)).toBeUndefined()
  if (buffers[0]) pool.give(buffers[0])
  expect(pool.take(512, small)).toBeUndefined()
  await Promise.resolve()
  expect(woken).toEqual(['large'])
  expect(pool.take(mib, large)).toBeDefined()
  await Promise.resolve()
  expect(woken).toEqual(['large', 'small'])
  // A caller that no longer waits doesn't block the others.
  expect(pool.take(mib, large)).toBeUndefined()
  pool.forget(small)
  if (buffers[1]) pool.give(buffers[1])
  await Promise.resolve()
  expect(pool.take(mib, large)).toBeDefined()
  pool.close()
})

test('a full arena: requests wait for own buffers, or for pages that others free', async () => {
  const { arena } = arenaOf(1)
  const pool = new PagePool(new ArenaShare(arena, 1), SIZES, unexpected)
  const other = new PagePool(new ArenaShare(arena, 2), SIZES, unexpected)
  const buffer = pool.take(mib, nobody)
  expect(pool.take(512, nobody)).toBeUndefined()
  const woken = vi.fn<() => void>()
  expect(other.take(512, woken)).toBeUndefined()
  await Promise.resolve()
  expect(woken).not.toHaveBeenCalled()
  if (buffer) pool.give(buffer)
  await new Promise(setImmediate)
  expect(woken).toHaveBeenCalledOnce()
  // The first pool frees its idle extent for the other one.
  const small = other.take(512, woken)
  expect(small).toBeDefined()
  expect([pool.pages, other.pages]).toEqual([0, 64])
  // A pool also frees an idle extent of its own that is too small.
  expect(other.take(mib, woken)).toBeUndefined()
  if (small) other.give(small)
  await new Promise(setImmediate)
  expect(other.take(mib, woken)).toBeDefined()
  pool.close()
  other.close()
})

test('a full arena that no request uses: the caller gets the error and does not wait', () => {
  const { arena } = arenaOf(0)
  const pool = new PagePool(new ArenaShare(arena, 1), SIZES, unexpected)
  expect(() => pool.take(512, nobody)).toThrow(ArenaFullError)
  expect([arena.waiting.size, pool.pages]).toEqual([0, 0])
  pool.close()
})

test('a disk gets more than one extent only within the share of its domain', () => {
  const { arena, open } = arenaOf(9)
  // Half of the arena is for requests: one share for this domain, one for the next.
  const small = { ...arena, pages: 4 * 600 }
  const pools = [0, 1].map(() => new PagePool(new ArenaShare(small, 1), SIZES, unexpected))
  const [first, second] = pools
  expect(first?.take(mib, nobody)).toBeDefined()
  expect(first?.take(mib, nobody)).toBeDefined()
  expect(first?.take(mib, nobody)).toBeUndefined()
  // Each disk gets one extent, so its requests can complete.
  expect(second?.take(mib, nobody)).toBeDefined()
  expect(second?.take(mib, nobody)).toBeUndefined()
  expect(open()).toBe(3)
  for (const pool of pools) pool.close()
})
