/** Grants that a guest lets stay mapped, by its control ring. */
import { ArenaShare } from '@xenkit/grant'
import { PAGE_SIZE } from '@xenkit/hypervisor'
import { XEN_NETIF_CTRL_STATUS as S, XEN_NETIF_CTRL_TYPE as T } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { StaticGrefs } from '../../src/backend/static-grefs.ts'
import { ControlRig } from '../support/control-rig.ts'

const QUEUES = 2
const MOST = 512
const READONLY = 1

/** Adds or deletes grants through the list in the guest's page. */
const add = (r: ControlRig, queue: number, refs: readonly number[], flags = 0): number => {
  r.list(refs.map((ref) => ({ ref, flags })))
  return r.ask(T.ADD_GREF_MAPPING, queue, r.pageRef, refs.length).status
}
const del = (r: ControlRig, queue: number, refs: readonly number[]) => {
  r.list(refs.map((ref) => ({ ref })))
  const { status, data } = r.ask(T.DEL_GREF_MAPPING, queue, r.pageRef, refs.length)
  return { status, data, each: r.statuses(refs.length) }
}

const queue = (r: ControlRig, index = 0): StaticGrefs =>
  r.back.staticGrefs[index] ?? expect.fail(`no queue ${index}`)

/** The page that the backend has mapped for the grant. */
function pageOf(r: ControlRig, gref: number, write = true): Uint8Array | undefined {
  const offset = queue(r).lookup(gref, write)
  if (offset === undefined) return undefined
  return new Uint8Array(r.dom0.arena.buffer).subarray(offset, offset + PAGE_SIZE)
}

const sizes = (r: ControlRig): number[] => r.back.staticGrefs.map(({ size }) => size)

test('pages are the guest’s own until it deletes them', async () => {
  await using r = await ControlRig.open({ queues: QUEUES })
  expect(r.ask(T.GET_GREF_MAPPING_SIZE, 1)).toEqual({ status: S.SUCCESS, data: MOST })
  const data = r.grant(3)
  const [a = 0, b = 0, c = 0] = data.grefs
  expect(add(r, 0, [a, b, c])).toBe(S.SUCCESS)
  data.bytes[PAGE_SIZE + 7] = 5
  expect(pageOf(r, b)?.[7]).toBe(5)
  expect(queue(r, 1).lookup(b, false)).toBeUndefined()
  const mapped = r.back.grants.stats.mappedPages
  expect(del(r, 0, [c, 0xffff_ffff, a])).toEqual({
    status: S.SUCCESS,
    data: 2,
    each: [S.SUCCESS, S.INVALID_PARAMETER, S.SUCCESS],
  })
  // What was mapped by the same call stays mapped.
  expect(pageOf(r, b)?.[7]).toBe(5)
  expect([pageOf(r, a), pageOf(r, c)]).toEqual([undefined, undefined])
  expect(r.back.grants.stats.mappedPages).toBe(mapped - 2)
  expect(del(r, 0, [a]).each).toEqual([S.INVALID_PARAMETER])
  expect(add(r, 0, [a])).toBe(S.SUCCESS)
})

test('pages that may only be read are found for reading alone', async () => {
  await using r = await ControlRig.open()
  const lent = r.grant(1, false)
  const [fixed = 0] = lent.grefs
  const [data = 0] = r.grant(1).grefs
  // All or none: a grant that is read-only can't be mapped for writing.
  expect(add(r, 0, [data, fixed])).toBe(S.INVALID_PARAMETER)
  expect(sizes(r)).toEqual([0, 0])
  expect(r.back.share.cached).toBe(0)
  r.list([{ ref: data }, { ref: 0xfff0, flags: READONLY }])
  expect(r.ask(T.ADD_GREF_MAPPING, 0, r.pageRef, 2).status).toBe(S.INVALID_PARAMETER)
  expect(r.back.share.cached).toBe(0)
  r.list([{ ref: data }, { ref: fixed, flags: READONLY }])
  expect(r.ask(T.ADD_GREF_MAPPING, 0, r.pageRef, 2).status).toBe(S.SUCCESS)
  lent.bytes[7] = 5
  expect(pageOf(r, fixed, false)?.[7]).toBe(5)
  expect(pageOf(r, fixed, true)).toBeUndefined()
  expect(pageOf(r, data, true)).toBeDefined()
})

test('a queue has a bounded number of pages', async () => {
  await using r = await ControlRig.open()
  const { grefs } = r.grant(MOST + 1)
  expect(add(r, 0, [...grefs.subarray(0, MOST)])).toBe(S.SUCCESS)
  const last = grefs[MOST] ?? 0
  expect(add(r, 0, [last])).toBe(S.INVALID_PARAMETER)
  expect(add(r, 1, [last])).toBe(S.SUCCESS)
  expect(del(r, 0, [grefs[3] ?? 0]).data).toBe(1)
  expect(add(r, 0, [last])).toBe(S.SUCCESS)
})

test('pages make room for other guests', async () => {
  await using r = await ControlRig.open({ arena: { pages: 512 } })
  const { grefs } = r.grant(200)
  expect(add(r, 0, [...grefs])).toBe(S.SUCCESS)
  const other = new ArenaShare(r.dom0.arena, 9)
  const cost = other.costOf(100)
  expect(other.cache(cost)).toBe(true)
  expect(pageOf(r, grefs[0] ?? 0)).toBeUndefined()
  expect(r.back.share.cached).toBe(0)
  // The guest knows nothing of it.
  expect(sizes(r)).toEqual([200, 0])
  expect(add(r, 0, [grefs[0] ?? 0])).toBe(S.INVALID_PARAMETER)
  expect(del(r, 0, [...grefs])).toMatchObject({ status: S.SUCCESS, data: 200 })
  other.uncache(cost)
  other.close()
})

test('a list takes as much of the guest’s turn as its entries, and all pages mapped again', async () => {
  await using r = await ControlRig.open()
  const { grefs } = r.grant(100)
  const { control, guestTurn } = r.back
  const spent = (type: number, refs: readonly number[]): number => {
    r.list(refs.map((ref) => ({ ref })))
    const { left } = guestTurn
    const { status } = control.answer({ id: 0, type, data: [0, r.pageRef, refs.length] })
    expect(status).toBe(S.SUCCESS)
    return left - guestTurn.left
  }
  expect(spent(T.ADD_GREF_MAPPING, [...grefs])).toBe(100)
  expect(spent(T.DEL_GREF_MAPPING, [grefs[0] ?? 0])).toBe(101)
})

test('whatever the guest asks, the answers are those of a model', async () => {
  const PAGES = 6
  const words = fc.oneof(
    { weight: 5, arbitrary: fc.nat(PAGES - 1) },
    { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
  )
  const requests = fc.record({
    type: fc.constantFrom(T.ADD_GREF_MAPPING, T.DEL_GREF_MAPPING),
    queue: fc.oneof(
      { weight: 6, arbitrary: fc.nat(QUEUES - 1) },
      { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
    ),
    pages: fc.array(words, { maxLength: 4 }),
    /** Entries that the request says it has, more than its list. */
    lie: fc.constantFrom(0, 0, 0, 0, 0, 0, 509, 0xffff_fff0),
    list: fc.constantFrom('page', 'page', 'page', 'page', 'readonly', 'none'),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(requests, { maxLength: 30 }), async (all) => {
      await using r = await ControlRig.open({ queues: QUEUES })
      const data = r.grant(PAGES)
      const readonly = r.grant(1, false)
      const added = [new Set<number>(), new Set<number>()]
      for (const { type, queue: index, pages, lie, list } of all) {
        const refs = pages.map((page) => data.grefs[page] ?? page)
        r.page.bytes.fill(0xff)
        r.list(refs.map((ref) => ({ ref })))
        readonly.bytes.set(r.page.bytes)
        const entries = pages.length + lie
        const isAdd = type === T.ADD_GREF_MAPPING
        const gref = { page: r.pageRef, readonly: readonly.grefs[0] ?? 0, none: 0xfff0 }[list]
        const { status, data: count } = r.ask(type, index, gref, entries)
        const queueAdded = added[index]
        const isList =
          queueAdded !== undefined && entries <= 512 && (list !== 'none' || entries === 0)
        let [expected, expectedCount]: [number, number] = [S.INVALID_PARAMETER, 0]
        if (isList && isAdd) {
          const fits = refs.every((ref) => data.grefs.includes(ref) && !queueAdded.has(ref))
          if (fits && lie === 0 && new Set(refs).size === refs.length) {
            expected = S.SUCCESS
            for (const ref of refs) queueAdded.add(ref)
          }
        } else if (isList) {
          const each = refs.map((ref) => (queueAdded.delete(ref) ? S.SUCCESS : S.INVALID_PARAMETER))
          expectedCount = each.filter((one) => one === S.SUCCESS).length
          if (list === 'page' || entries === 0) {
            expected = S.SUCCESS
            expect(r.statuses(refs.length)).toEqual(each)
          }
        }
        expect([status, count]).toEqual([expected, expectedCount])
        for (const [q, set] of added.entries()) {
          const found = [...data.grefs].filter((ref) => queue(r, q).lookup(ref, true) !== undefined)
          expect(new Set(found)).toEqual(set)
        }
      }
      expect(r.failures).toEqual([])
    }),
    { numRuns: 50 },
  )
})
