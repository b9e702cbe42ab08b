import { type Arena, ArenaFullError, PAGE_SIZE } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Buffer, BufferPool } from '../src/backend/buffer-pool.ts'

beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => vi.useRealTimers())

/** An arena of so many extents. */
function arenaOf(extents: number) {
  let open = 0
  let next = 0
  const buffer = new ArrayBuffer(0)
  const arena: Arena = {
    buffer,
    allocate(pages) {
      if (open === extents) throw new ArenaFullError('the arena is full', { domid: 0, pages })
      open++
      const close = (): void => void open--
      return { byteOffset: next++ * 2 ** 24, bytes: new Uint8Array(pages * PAGE_SIZE), close, [Symbol.dispose]: close }
    },
  }
  return { arena, open: () => open }
}

const mib = 2 ** 20
const nobody = (): void => {}
const unexpected = (error: unknown): never => expect.unreachable(String(error))

test('runs are apart from each other and hold what was asked for, whatever comes and goes', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: mib }), fc.nat(5)), { maxLength: 80 }), (takes) => {
      const { arena, open } = arenaOf(9)
      const pool = new BufferPool(arena, unexpected)
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
          // Only where there may really be no room: less than the largest request is free in each extent.
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
    }),
  )
})

test('an idle disk has nothing, and no timer', () => {
  const { arena, open } = arenaOf(9)
  const pool = new BufferPool(arena, unexpected)
  expect([open(), vi.getTimerCount()]).toEqual([0, 0])
  const [first, second] = [pool.take(mib, nobody), pool.take(512, nobody)]
  expect([open(), vi.getTimerCount()]).toEqual([2, 1])
  if (first) pool.give(first)
  vi.advanceTimersByTime(3_000)
  // The other is still at the store.
  expect(open()).toBe(1)
  if (second) pool.give(second)
  vi.advanceTimersByTime(3_000)
  expect([open(), vi.getTimerCount()]).toEqual([0, 0])
  pool.take(512, nobody)
  pool.close()
  expect([open(), vi.getTimerCount()]).toEqual([0, 0])
})

test('who waits is served before who comes later, and one after the other', async () => {
  const { arena } = arenaOf(9)
  const pool = new BufferPool(arena, unexpected)
  const buffers = Array.from({ length: 4 }, () => pool.take(mib, nobody))
  const woken: string[] = []
  const [large, small] = [(): void => void woken.push('large'), (): void => void woken.push('small')]
  expect(pool.take(mib, large)).toBeUndefined()
  if (buffers[0]) pool.give(buffers[0])
  expect(pool.take(512, small)).toBeUndefined()
  await Promise.resolve()
  expect(woken).toEqual(['large'])
  expect(pool.take(mib, large)).toBeDefined()
  await Promise.resolve()
  expect(woken).toEqual(['large', 'small'])
  // One that will not come any more keeps nobody waiting.
  expect(pool.take(mib, large)).toBeUndefined()
  pool.forget(small)
  if (buffers[1]) pool.give(buffers[1])
  await Promise.resolve()
  expect(pool.take(mib, large)).toBeDefined()
  pool.close()
})

test('a full arena: what there is has to do, and with nothing the caller is told', () => {
  const { arena } = arenaOf(1)
  const pool = new BufferPool(arena, unexpected)
  expect(pool.take(mib, nobody)).toBeDefined()
  expect(pool.take(512, nobody)).toBeUndefined()
  const other = new BufferPool(arena, unexpected)
  expect(() => other.take(512, nobody)).toThrow(ArenaFullError)
  pool.close()
  // A small extent is no use to a large request, which therefore doesn't wait for it, nor holds up others.
  expect(other.take(512, nobody)).toBeDefined()
  expect(other.pages).toBe(64)
  expect(() => other.take(mib, nobody)).toThrow(ArenaFullError)
  expect(other.take(512, () => {})).toBeDefined()
  other.close()
})
