import { GrantTable } from '@xenkit/grant'
import { createMachine } from '@xenkit/sim'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MappedData } from '../src/backend/mapped-data.ts'
import { Requests } from '../src/backend/requests.ts'
import { MAX_SEGMENTS } from '../src/nodes.ts'
import { hooked } from './hooked-hypervisor.ts'

const ROWS = 4
const PAGES = 24
const CAPACITY = 10

/** What a guest does: begins a request of some of its pages, or has so many answered, from one on. The last page isn't granted. */
const step = fc.oneof(fc.record({ begins: fc.array(fc.nat(PAGES), { minLength: 1, maxLength: 8 }) }), fc.record({ from: fc.nat(ROWS - 1), ends: fc.integer({ min: 1, max: ROWS }) }))

test.each(['map', 'persistent'] as const)('%s: whatever begins and ends, each request has the pages that it named until its end, and none longer than that but what is cached', async (kind) => {
  await using machine = createMachine()
  const front = machine.createDomain()
  /** By its place in the arena, how often a page is mapped there: a simulated one has a single place. */
  const mapped = new Map<number, number>()
  const count = (at: number, change: number): unknown => mapped.set(at, (mapped.get(at) ?? 0) + change)
  const back = hooked(machine.createDomain(), {
    mapped: (mapping) => {
      const close = mapping.close.bind(mapping)
      count(mapping.byteOffset, 1)
      mapping.close = () => {
        count(mapping.byteOffset, -1)
        close()
      }
      return mapping
    },
  })
  const shares = new GrantTable(front.grants)
  const { grefs, bytes } = shares.share({ domid: back.domid, pages: PAGES, writable: true })
  for (let page = 0; page < PAGES; page++) bytes.fill(page, page * 4096, (page + 1) * 4096)
  const ungranted = Math.max(...grefs) + 1
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      using grants = new GrantTable(back.grants)
      const requests = new Requests(ROWS)
      let cached = 0
      const counted = (change: number): void => void (cached += change)
      const failed = (error: unknown): never => expect.unreachable(String(error))
      const persistent = kind === 'persistent' ? { capacity: CAPACITY, counted, failed } : undefined
      const { domid } = front
      const { buffer } = back.arena
      const data = new MappedData({ requests, grants, domid, buffer, persistent })
      const open = new Map<number, readonly number[]>()
      for (const it of steps) {
        if ('ends' in it) {
          for (const row of [...open.keys()].slice(it.from, it.from + it.ends)) {
            data.release(row)
            open.delete(row)
            requests.release(row)
          }
        } else if (requests.freeCount > 0) {
          const row = requests.take()
          requests.status[row] = BLKIF_RSP.OKAY
          requests.operation[row] = BLKIF_OP.READ
          requests.segmentCount[row] = it.begins.length
          for (const [i, page] of it.begins.entries()) {
            requests.gref[row * MAX_SEGMENTS + i] = grefs[page] ?? ungranted
            requests.pageOffset[row * MAX_SEGMENTS + i] = 512
            requests.length[row * MAX_SEGMENTS + i] = 1024
          }
          expect(data.reserve(row)).toBe(true)
          // Those that nobody uses make room in the cache.
          if (kind === 'persistent' && open.size === 0) expect(grants.stats.mappedPages).toBe(cached)
          expect(requests.status[row]).toBe(it.begins.includes(PAGES) ? BLKIF_RSP.ERROR : BLKIF_RSP.OKAY)
          open.set(row, it.begins)
        }
        for (const [row, pages] of open) {
          if (pages.includes(PAGES)) continue
          const views: Uint8Array[] = []
          data.addViews(row, views)
          expect(views.map((view) => [view[0], view.length, mapped.get(view.byteOffset - 512) !== 0])).toEqual(pages.map((page) => [page, 1024, true]))
        }
        expect(cached).toBeLessThanOrEqual(CAPACITY)
        if (open.size === 0) expect(grants.stats.mappedPages).toBe(cached)
      }
      for (const row of open.keys()) data.release(row)
      expect(grants.stats.mappedPages).toBe(cached)
      data.close()
      expect([cached, grants.stats.mappedPages]).toEqual([0, 0])
    }),
  )
  shares.close()
})
