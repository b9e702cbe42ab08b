import { GNTST } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { twoDomains } from './support/machine.ts'

test('copies in and out, and reports each operation', async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 2, writable: true })
  using readOnly = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: false })
  using local = m.back.arena.allocate(3)
  using batch = m.back.grants.openCopyBatch({ domid: m.front.domid, capacity: 4 })
  share.bytes.set([1, 2, 3, 4], 4092)
  share.bytes.set([5, 6, 7], 4096)
  batch.gref.set([share.grefs[0] ?? 0, share.grefs[1] ?? 0, 2, readOnly.grefs[0] ?? 0])
  batch.offset.set([4092, 0, 0, 0])
  batch.length.set([4, 3, 1, 1])
  // A copy's local bytes may cross a page boundary, as the kernel's ioctl allows.
  batch.local.set([
    local.byteOffset + 4094,
    local.byteOffset,
    local.byteOffset,
    local.byteOffset + 4,
  ])
  expect(batch.copyIn(4)).toBe(1)
  expect([...batch.status]).toEqual([GNTST.okay, GNTST.okay, GNTST.general_error, GNTST.okay])
  expect([...local.bytes.subarray(4094, 4098)]).toEqual([1, 2, 3, 4])
  expect([...local.bytes.subarray(0, 3)]).toEqual([5, 6, 7])
  local.bytes.fill(0xee)
  expect(batch.copyOut(4)).toBe(2)
  expect([...batch.status]).toEqual([
    GNTST.okay,
    GNTST.okay,
    GNTST.general_error,
    GNTST.general_error,
  ])
  expect([...share.bytes.subarray(4091, 4100)]).toEqual([
    0, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0,
  ])
  expect(readOnly.bytes[0]).toBe(0)
})

test('a batch larger than one hold of the lock is copied whole', async () => {
  await using m = twoDomains()
  const pages = 100
  using share = m.front.grants.share({ domid: m.back.domid, pages, writable: true })
  using local = m.back.arena.allocate(pages)
  using batch = m.back.grants.openCopyBatch({ domid: m.front.domid, capacity: pages })
  share.grefs.forEach((gref, page) => {
    share.bytes.fill(page + 1, page * 4096, (page + 1) * 4096)
    batch.gref[page] = gref
    batch.length[page] = 4096
    batch.local[page] = local.byteOffset + page * 4096
  })
  expect(batch.copyIn(pages)).toBe(0)
  expect(Buffer.compare(local.bytes, share.bytes)).toBe(0)
})

test('a domain that does not exist is a status, not an exception', async () => {
  await using m = twoDomains()
  using local = m.back.arena.allocate(1)
  using batch = m.back.grants.openCopyBatch({ domid: 99, capacity: 1 })
  batch.length[0] = 1
  batch.local[0] = local.byteOffset
  expect(batch.copyIn(1)).toBe(1)
  expect(batch.status[0]).toBe(GNTST.bad_domain)
})

test.each([
  ['count', { count: 3 }],
  ['count', { count: -1 }],
  ['length', { length: 0 }],
  ['length', { length: 4097 }],
  ['offset', { offset: 4095, length: 2 }],
  ['local', { local: 0xffff_ffff, length: 4 }],
])('nothing is copied if a %s is out of bounds: %o', async (name, bad) => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  using local = m.back.arena.allocate(1)
  using batch = m.back.grants.openCopyBatch({ domid: m.front.domid, capacity: 2 })
  share.bytes.fill(1)
  const {
    count = 2,
    offset = 0,
    length = 1,
    local: at = local.byteOffset,
  } = bad as Partial<Record<'count' | 'offset' | 'length' | 'local', number>>
  batch.gref.fill(share.grefs[0] ?? 0)
  batch.length.set([1, length])
  batch.offset.set([0, offset])
  batch.local.set([local.byteOffset, at])
  expect(() => batch.copyIn(count)).toThrow(new RegExp(`^"${name}" expected`))
  expect(local.bytes[0]).toBe(0)
})

test("the local side must be the domain's own or mapped by it", async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  using batch = m.back.grants.openCopyBatch({ domid: m.front.domid, capacity: 1 })
  batch.gref[0] = share.grefs[0] ?? 0
  batch.length[0] = 16
  batch.local[0] = share.byteOffset + 64
  expect(() => batch.copyIn(1)).toThrow('EFAULT')
  const refs = [{ domid: m.front.domid, gref: share.grefs[0] ?? 0 }]
  const readOnly = m.back.grants.map(refs, { writable: false })
  expect(() => batch.copyIn(1)).toThrow('EFAULT')
  expect(batch.copyOut(1)).toBe(0)
  readOnly.close()
  const writable = m.back.grants.map(refs, { writable: true })
  expect(batch.copyIn(1)).toBe(0)
  writable.close()
  expect(() => batch.copyIn(1)).toThrow('EFAULT')
  const freed = m.back.arena.allocate(1)
  freed.close()
  batch.local[0] = freed.byteOffset
  expect(() => batch.copyIn(1)).toThrow('EFAULT')
})

test('a closed batch copies nothing', async () => {
  await using m = twoDomains()
  const batch = m.back.grants.openCopyBatch({ domid: 1, capacity: 1 })
  batch.close()
  expect(() => batch.copyIn(0)).toThrow(TypeError)
})
