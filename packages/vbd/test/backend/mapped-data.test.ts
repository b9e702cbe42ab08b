import { ArenaShare, GrantTable, PersistentGrants } from '@xenkit/grant'
import { createMachine } from '@xenkit/sim'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { PagePool } from '@xenkit/backend'
import { CachedPages } from '../../src/backend/cached-pages.ts'
import { CopiedData } from '../../src/backend/copied-data.ts'
import { MappedData } from '../../src/backend/mapped-data.ts'
import { RequestPages } from '../../src/backend/request-pages.ts'
import { Requests } from '../../src/backend/requests.ts'
import { MAX_SEGMENTS } from '../../src/nodes.ts'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'

const SIZES = { small: 64, large: 256, maxLarge: 4 }

const ROWS = 4
const PAGES = 24
const CAPACITY = 10
const BYTES = 1024

const unexpected = (error: unknown): never => expect.unreachable(String(error))

/**
 * A step of the guest: it sends a request of some pages, or `ends` requests from index `from` on
 * are answered. The last page isn't granted.
 */
const step = fc.oneof(
  fc.record({ begins: fc.array(fc.nat(PAGES), { minLength: 1, maxLength: 8 }) }),
  fc.record({ from: fc.nat(ROWS - 1), ends: fc.integer({ min: 1, max: ROWS }) }),
)

/**
 * Each request sees its pages' data until it ends. No page stays mapped longer, except cached ones.
 */
test.each(['map', 'persistent'] as const)('%s: data and mappings stay right', async (kind) => {
  await using machine = createMachine()
  const front = machine.createDomain()
  /** How often a page is mapped, by its offset in the arena. A simulated page has a single one. */
  const mapped = new Map<number, number>()
  const count = (at: number, change: number): unknown =>
    mapped.set(at, (mapped.get(at) ?? 0) + change)
  const back = hooked(machine.createDomain({ arena: { mappings: 65_536 } }), {
    mappedPages: (pages) => {
      const close = pages.close.bind(pages)
      for (const offset of pages.offsets) count(offset, 1)
      pages.close = () => {
        for (const offset of pages.offsets) count(offset, -1)
        close()
      }
      return pages
    },
  })
  const shares = new GrantTable(front.grants)
  const { grefs, bytes } = shares.share({ domid: back.domid, pages: PAGES, writable: true })
  for (let page = 0; page < PAGES; page++) bytes.fill(page, page * 4096, (page + 1) * 4096)
  const ungranted = Math.max(...grefs) + 1
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      using share = new ArenaShare(back.arena, front.domid)
      using grants = new GrantTable(back.grants, share)
      const requests = new Requests(ROWS)
      const pool = new PagePool(share, SIZES, unexpected)
      const copier = grants.openCopier({ domid: front.domid, capacity: 256 })
      const copied = new CopiedData({ requests, copier, pool, wake: () => {} })
      let cached = 0
      const counted = (change: number): void => void (cached += change)
      const pages =
        kind === 'map'
          ? new RequestPages({ requests, grants, share, readsAlone: false })
          : new CachedPages(
              requests,
              new PersistentGrants(grants, share, {
                domid: front.domid,
                capacity: CAPACITY,
                failed: unexpected,
                counted,
              }),
            )
      const data = new MappedData({ requests, buffer: back.arena.buffer, pages, copied })
      /** Pages that each row named. */
      const open = new Map<number, readonly number[]>()
      for (const it of steps) {
        if ('ends' in it) {
          for (const row of [...open.keys()].slice(it.from, it.from + it.ends)) {
            data.release(row)
            open.delete(row)
            requests.complete(row)
            requests.releaseDone()
          }
        } else if (requests.free > 0) {
          const row = requests.take()
          requests.wait(row)
          requests.start(row)
          requests.status[row] = BLKIF_RSP.OKAY
          requests.operation[row] = BLKIF_OP.WRITE
          requests.segmentCount[row] = it.begins.length
          requests.bytes[row] = it.begins.length * BYTES
          for (const [i, page] of it.begins.entries()) {
            requests.gref[row * MAX_SEGMENTS + i] = grefs[page] ?? ungranted
            requests.pageOffset[row * MAX_SEGMENTS + i] = 512
            requests.length[row * MAX_SEGMENTS + i] = BYTES
          }
          const before = cached
          expect(data.reserve(row)).toBe(true)
          data.fetch(Uint16Array.of(row), 0, 1)
          const bad = it.begins.includes(PAGES)
          expect(requests.status[row]).toBe(bad ? BLKIF_RSP.ERROR : BLKIF_RSP.OKAY)
          // Runs are evicted whole, and only if no page of them is in use: only an empty cache
          // surely has room.
          if (kind === 'map' || before === 0) expect(copied.has(row)).toBe(bad)
          open.set(row, it.begins)
        }
        for (const [row, named] of open) {
          if (named.includes(PAGES)) continue
          const views: Uint8Array[] = []
          data.addViews(row, views)
          const bytes = views.flatMap((view) => [...view])
          expect(bytes).toHaveLength(named.length * BYTES)
          expect(named.map((_, i) => bytes[i * BYTES])).toEqual(named)
          if (copied.has(row)) continue
          for (const { byteOffset } of views) {
            expect(mapped.get(byteOffset - 512)).toBeGreaterThan(0)
          }
        }
        expect(cached).toBeLessThanOrEqual(CAPACITY)
        if (kind === 'persistent' || open.size === 0) expect(grants.stats.mappedPages).toBe(cached)
      }
      for (const row of open.keys()) data.release(row)
      expect([grants.stats.mappedPages, share.cached]).toEqual([cached, cached])
      data.close()
      pool.close()
      expect([cached, grants.stats.mappedPages, share.working]).toEqual([0, 0, 0])
    }),
  )
  shares.close()
})

test('a ring that waited for a buffer and no longer needs one blocks no other ring', async () => {
  await using machine = createMachine()
  const [front, back] = [machine.createDomain(), machine.createDomain()]
  using share = new ArenaShare(back.arena, front.domid)
  using grants = new GrantTable(back.grants, share)
  const pool = new PagePool(share, SIZES, unexpected)
  let outcome: 'mapped' | 'copy' = 'copy'
  const rings = [0, 1].map(() => {
    const requests = new Requests(ROWS)
    const woken = vi.fn<() => void>()
    const copier = grants.openCopier({ domid: front.domid, capacity: 1 })
    const copied = new CopiedData({ requests, copier, pool, wake: woken })
    const pages = { map: () => outcome, release: () => {}, close: () => {} }
    const data = new MappedData({ requests, buffer: back.arena.buffer, pages, copied })
    const row = requests.take()
    requests.segmentCount[row] = 1
    requests.bytes[row] = 4096 * MAX_SEGMENTS
    return { data, row, woken }
  })
  const [first, second] = rings
  const taken = Array.from({ length: 4 }, () => pool.take(4096 * MAX_SEGMENTS, () => {}))
  expect(rings.map(({ data, row }) => data.reserve(row))).toEqual([false, false])
  for (const buffer of taken) if (buffer) pool.give(buffer)
  await Promise.resolve()
  expect([first?.woken, second?.woken].map((woken) => woken?.mock.calls.length)).toEqual([1, 0])
  // From now on its pages can be mapped.
  outcome = 'mapped'
  expect(first?.data.reserve(first.row)).toBe(true)
  await Promise.resolve()
  expect(second?.woken).toHaveBeenCalledOnce()
  for (const { data } of rings) data.close()
  pool.close()
})
