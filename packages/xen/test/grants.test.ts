import { ArenaFullError, GrantError, NotAvailableError } from '@xenkit/hypervisor'
import { describe, expect, test, vi } from 'vitest'
import { XenArena } from '../src/arena.ts'
import { XenGrants } from '../src/grants.ts'
import { fakeNative, type Script } from './support/fake-native.ts'

function setup(script: Partial<Script> = {}) {
  const { native, asked } = fakeNative({ probes: new Map(), ...script })
  const arena = new XenArena(native, 16)
  return { arena, grants: new XenGrants(native, arena), asked }
}

const refs = (...grefs: readonly number[]) => grefs.map((gref) => ({ domid: 3, gref }))
const details = (status: number, more: object = {}): unknown =>
  expect.objectContaining({ details: expect.objectContaining({ status, ...more }) as object })

describe('map', () => {
  test('maps all refs in one call, in order', () => {
    const { grants, asked, arena } = setup()
    using mapping = grants.map(
      [
        { domid: 3, gref: 9 },
        { domid: 4, gref: 8 },
      ],
      { writable: false },
    )
    expect(asked.maps).toEqual([{ refs: [3, 9, 4, 8], writable: false }])
    expect(mapping.bytes.length).toBe(2 * 4096)
    expect(mapping.bytes.buffer).toBe(arena.buffer)
    expect(mapping.bytes.byteOffset).toBe(mapping.byteOffset)
  })

  test("names the first ref that can't be mapped, and its status", () => {
    const { grants } = setup({
      mapFails: 'EINVAL',
      probes: new Map([
        [9, -3],
        [10, -8],
      ]),
    })
    const map = (): unknown => grants.map(refs(8, 9, 10), { writable: true })
    expect(map).toThrow(GrantError)
    expect(map).toThrow(
      'cannot map gref 9 of domain 3: GNTST_bad_gntref, the other domain has not granted this reference',
    )
    expect(map).toThrow(details(-3, { domid: 3, gref: 9 }))
  })

  test('reports the errno if there is no status', () => {
    const { grants } = setup({ mapFails: 'EINVAL', probes: new Map([[8, -22]]) })
    expect(() => grants.map(refs(8), { writable: true })).toThrow(details(-22, { gref: 8 }))
    expect(() => grants.map(refs(8), { writable: true })).toThrow(
      'cannot map gref 8 of domain 3: mmap of granted pages: EINVAL',
    )
  })

  test('reports that a ref is granted read-only', () => {
    const { grants } = setup({ mapFails: 'EINVAL', probes: new Map([[8, -22]]), readOnly: [8] })
    expect(() => grants.map(refs(8), { writable: true })).toThrow(
      'cannot map gref 8 of domain 3: GNTST_general_error, it is granted read-only',
    )
  })

  test('names no ref for an error that none caused', () => {
    const { grants } = setup({ mapFails: 'EFAULT' })
    const map = (): unknown => grants.map(refs(8, 9), { writable: true })
    expect(map).toThrow('cannot map 2 granted pages: mmap of granted pages: EFAULT')
    expect(map).toThrow(details(-14))
  })

  test('reports lack of memory without probing each ref', () => {
    // -12 (ENOMEM) is also the number of GNTST_eagain. Probing would return it, and the caller
    // would wait for a paged-out page.
    const { grants } = setup({ mapFails: 'ENOMEM', probes: new Map([[8, -12]]) })
    for (const map of [grants.map.bind(grants), grants.mapPages.bind(grants)]) {
      const mapping = (): unknown => map(refs(8, 9), { writable: true })
      expect(mapping).toThrow(ArenaFullError)
      expect(mapping).toThrow('mmap of granted pages: ENOMEM; vm.max_map_count may be too low')
    }
  })

  test('of separate pages is one mapping with an offset for each page', () => {
    const { grants, arena, asked } = setup()
    const first = grants.mapPages(refs(9, 7), { writable: true })
    using pages = grants.mapPages(refs(5, 8, 6), { writable: true })
    expect(asked.maps.map(({ refs: pairs }) => pairs)).toEqual([
      [3, 9, 3, 7],
      [3, 5, 3, 8, 3, 6],
    ])
    expect([[...first.offsets], [...pages.offsets]]).toEqual([
      [0, 4096],
      [8192, 12_288, 16_384],
    ])
    first.close()
    first.close()
    expect(arena.allocate(2).byteOffset).toBe(0)
  })

  test('needs room in the arena', () => {
    const { grants } = setup()
    expect(() =>
      grants.map(refs(...Array.from({ length: 17 }, (_, index) => index)), { writable: true }),
    ).toThrow(ArenaFullError)
  })

  test.each([
    [[], RangeError],
    [[{ domid: 0x7ff0, gref: 1 }], RangeError],
    [[{ domid: 1, gref: -1 }], RangeError],
    [[{ domid: 1, gref: 1.5 }], TypeError],
  ])('refuses %j', (wrong, error) => {
    const { grants, asked } = setup()
    expect(() => grants.map(wrong, { writable: true })).toThrow(error)
    expect(asked.maps).toEqual([])
  })
})

test('a hold keeps the arena after the hypervisor is closed', () => {
  const { grants, arena } = setup()
  const mapping = grants.map(refs(8), { writable: true })
  const [own, closed] = [arena.allocate(1), arena.allocate(1)]
  mapping.bytes[0] = own.bytes[0] = closed.bytes[0] = 7
  const [first, second] = [arena.hold(), arena.hold()]
  grants.close()
  arena.close()
  closed.close()
  expect([mapping.bytes[0], own.bytes[0], closed.bytes[0]]).toEqual([7, 7, 0])
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  expect([mapping.bytes[0], own.bytes[0]]).toEqual([7, 7])
  second[Symbol.dispose]()
  expect([mapping.bytes[0], own.bytes[0]]).toEqual([0, 0])
  mapping.close()
  expect(() => arena.allocate(1)).toThrow(NotAvailableError)
})

test('a mapping ends with the hypervisor, and may be closed after it', () => {
  const { grants, arena } = setup()
  const mapping = grants.map(refs(8), { writable: true })
  mapping.bytes[0] = 7
  arena.close()
  expect(mapping.bytes[0]).toBe(0)
  mapping.close()
  mapping.close()
  expect(() => grants.map(refs(8), { writable: true })).toThrow(NotAvailableError)
})

describe('a copy batch', () => {
  test('is one call, whose arrays lie where the addon expects them', () => {
    const { grants, asked } = setup()
    using batch = grants.openCopyBatch({ domid: 3, capacity: 5 })
    expect(batch.copyIn(5)).toBe(0)
    expect(batch.copyOut(2)).toBe(0)
    const table = batch.status.byteOffset
    expect(asked.copies).toEqual([
      { table, capacity: 5, count: 5, domid: 3, outward: false },
      { table, capacity: 5, count: 2, domid: 3, outward: true },
    ])
    const columns = [batch.length, batch.offset, batch.local, batch.gref]
    expect(columns.map(({ byteOffset }) => byteOffset - table)).toEqual([20, 40, 60, 80])
    expect(columns.map(({ length }) => length)).toEqual([5, 5, 5, 5])
  })

  test('has a limited capacity', () => {
    const { grants } = setup()
    expect(() => grants.openCopyBatch({ domid: 3, capacity: 65_537 })).toThrow(RangeError)
    // such a batch takes 224 pages of the arena, which has 16
    expect(() => grants.openCopyBatch({ domid: 3, capacity: 65_536 })).toThrow(ArenaFullError)
  })

  test('refuses counts out of range and use after close', () => {
    const { grants, asked } = setup()
    const batch = grants.openCopyBatch({ domid: 3, capacity: 5 })
    expect(() => batch.copyIn(6)).toThrow(RangeError)
    expect(() => batch.copyIn(-1)).toThrow(RangeError)
    expect(() => batch.copyIn(1.5)).toThrow(TypeError)
    batch.close()
    batch.close()
    expect(() => batch.copyIn(1)).toThrow(TypeError)
    expect(asked.copies).toEqual([])
  })

  test('throws when the kernel refuses the whole call', () => {
    const { grants } = setup({ copyFails: 'EFAULT' })
    using batch = grants.openCopyBatch({ domid: 3, capacity: 5 })
    expect(() => batch.copyOut(1)).toThrow(
      'cannot copy to pages of domain 3: IOCTL_GNTDEV_GRANT_COPY: EFAULT',
    )
    expect(() => batch.copyOut(1)).toThrow(details(-14, { count: 1 }))
  })
})

test('out of bounds is a RangeError, a closed arena a NotAvailableError', () => {
  const { arena } = setup()
  expect(() => arena.allocate(0)).toThrow(RangeError)
  expect(() => arena.allocate(17)).toThrow(ArenaFullError)
  const pages = arena.allocate(1)
  arena.close()
  expect(() => arena.allocate(1)).toThrow(NotAvailableError)
  pages.close()
})

describe('releasing pages', () => {
  const refuse = (): never => {
    throw Object.assign(new Error('IOCTL_GNTDEV_UNMAP_GRANT_REF: EINVAL'), { code: 'EINVAL' })
  }

  test('an unmap that is refused is a GrantError', () => {
    const { grants, arena } = setup()
    const mapping = grants.map(refs(8, 9), { writable: true })
    vi.spyOn(arena.native, 'close').mockImplementation(refuse)
    const message = 'cannot give back 2 granted pages: IOCTL_GNTDEV_UNMAP_GRANT_REF: EINVAL'
    const error: unknown = expect.objectContaining({ name: 'GrantError', message })
    const close = (): void => mapping.close()
    expect(close).toThrow(error)
    expect(close).not.toThrow()
  })

  test('a refused unmap at the end of the arena is a GrantError too', () => {
    const { arena } = setup()
    vi.spyOn(arena.native, 'closeAll').mockImplementation(refuse)
    expect(() => arena.close()).toThrow(GrantError)
    expect(() => arena.close()).toThrow(details(-22))
  })
})
