import type { Pages } from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { GrantTable, type GrantCopier } from '../src/index.ts'
import { twoDomains, UNGRANTED } from './support/domains.ts'
import { withShortage, type Shortage } from './support/eagain.ts'

const OPS = 11

/** A backend's copier with 11 pages of its own, for 11 pages that the frontend granted. */
function copying(
  m: ReturnType<typeof twoDomains>,
  { writable = true, shortage = { calls: 0 } }: { writable?: boolean; shortage?: Shortage } = {},
) {
  const front = new GrantTable(m.front.grants)
  const back = new GrantTable(withShortage(m.back.grants, shortage))
  const share = front.share({ domid: m.back.domid, pages: OPS, writable })
  const own = m.back.arena.allocate(OPS)
  const copier = back.openCopier({ domid: m.front.domid, capacity: OPS })
  return {
    back,
    share,
    own,
    copier,
    [Symbol.dispose]: () => {
      own.close()
      back.close()
      front.close()
    },
  }
}

/** Adds one operation per page: it copies sectors 1..6 of the page. */
function addAll(copier: GrantCopier, grefs: ArrayLike<number>, own: Pages): void {
  copier.reset()
  for (const [i, gref] of Array.from(grefs).entries()) {
    expect(copier.add(gref, 512, 6 * 512, own.byteOffset + i * 4096)).toBe(i)
  }
}

test('copies in and out exactly the bytes asked for', async () => {
  await using m = twoDomains()
  using c = copying(m)
  for (let i = 0; i < OPS; i++) c.share.bytes.fill(i + 1, i * 4096, (i + 1) * 4096)
  c.own.bytes.fill(0xee)
  addAll(c.copier, c.share.grefs, c.own)
  expect([c.copier.count, c.copier.copyIn()]).toEqual([OPS, 0])
  for (let i = 0; i < OPS; i++) {
    expect(new Set(c.own.bytes.subarray(i * 4096, i * 4096 + 3072))).toEqual(new Set([i + 1]))
    expect(new Set(c.own.bytes.subarray(i * 4096 + 3072, (i + 1) * 4096))).toEqual(new Set([0xee]))
  }
  c.own.bytes.fill(0x77)
  expect(c.copier.copyOut()).toBe(0)
  for (let i = 0; i < OPS; i++) {
    expect(new Set(c.share.bytes.subarray(i * 4096 + 512, i * 4096 + 3584))).toEqual(
      new Set([0x77]),
    )
    expect([c.share.bytes[i * 4096 + 511], c.share.bytes[i * 4096 + 3584]]).toEqual([i + 1, i + 1])
  }
})

test.each(Array.from({ length: OPS }, (_, i) => i))(
  'the operation at %i fails alone: the others are complete (XSA-361)',
  async (bad) => {
    await using m = twoDomains()
    using c = copying(m)
    c.share.bytes.fill(0x11)
    addAll(c.copier, c.share.grefs.with(bad, UNGRANTED), c.own)
    for (const run of [() => c.copier.copyIn(), () => c.copier.copyOut()]) {
      expect(run()).toBe(1)
      expect([...c.copier.status].map((status) => status < 0)).toEqual(
        Array.from({ length: OPS }, (_, i) => i === bad),
      )
    }
    for (let i = 0; i < OPS; i++) expect(c.own.bytes[i * 4096]).toBe(i === bad ? 0 : 0x11)
    // A failed run doesn't affect the copier's next run.
    addAll(c.copier, c.share.grefs, c.own)
    expect(c.copier.copyIn()).toBe(0)
    expect([...c.copier.status].every((status) => status === GNTST.okay)).toBe(true)
  },
)

test('a page granted read-only is not written', async () => {
  await using m = twoDomains()
  using c = copying(m, { writable: false })
  addAll(c.copier, c.share.grefs, c.own)
  expect([c.copier.copyIn(), c.copier.copyOut()]).toEqual([0, OPS])
})

test('holds as many operations as its capacity, until reset', async () => {
  await using m = twoDomains()
  using c = copying(m)
  addAll(c.copier, c.share.grefs, c.own)
  expect(() => c.copier.add(1, 0, 1, 0)).toThrow(
    'the copier holds 11 operations, which is its capacity',
  )
  c.copier.reset()
  expect([c.copier.count, c.copier.copyIn(), c.copier.copyOut()]).toEqual([0, 0, 0])
  expect(c.copier.add(c.share.grefs[0] ?? 0, 0, 4096, c.own.byteOffset)).toBe(0)
})

test("an operation out of bounds is the caller's mistake, and nothing is copied", async () => {
  await using m = twoDomains()
  using c = copying(m)
  c.share.bytes.fill(0x11)
  c.copier.add(c.share.grefs[0] ?? 0, 0, 4096, c.own.byteOffset)
  c.copier.add(c.share.grefs[1] ?? 0, 1, 4096, c.own.byteOffset)
  expect(() => c.copier.copyIn()).toThrow(RangeError)
  expect(c.own.bytes[0]).toBe(0)
})

test('a paged-out page is tried again at once', async () => {
  await using m = twoDomains()
  const shortage = { calls: 3 }
  using c = copying(m, { shortage })
  c.share.bytes.fill(0x11)
  addAll(c.copier, c.share.grefs, c.own)
  expect(c.copier.copyIn()).toBe(0)
  expect(c.back.stats.retries).toBe(3)
  expect(c.copier.status[0]).toBe(GNTST.okay)
})

test('a page that stays paged out fails its operation after eight calls', async () => {
  await using m = twoDomains()
  const shortage = { calls: 1000 }
  using c = copying(m, { shortage })
  addAll(c.copier, c.share.grefs, c.own)
  expect(c.copier.copyOut()).toBe(1)
  expect([shortage.calls, c.copier.status[0], c.copier.status[1]]).toEqual([
    992,
    GNTST.eagain,
    GNTST.okay,
  ])
})

test('other failures are not tried again', async () => {
  await using m = twoDomains()
  using c = copying(m)
  addAll(c.copier, c.share.grefs.with(4, UNGRANTED), c.own)
  expect(c.copier.copyIn()).toBe(1)
  expect(c.back.stats.retries).toBe(0)
})
