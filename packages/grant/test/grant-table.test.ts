import { GrantError } from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { GrantTable } from '../src/index.ts'
import { twoDomains, UNGRANTED } from './support/domains.ts'
import { withShortage } from './support/eagain.ts'

const nothing = { mappings: 0, mappedPages: 0, shares: 0, sharedPages: 0, copiers: 0, retries: 0 }

afterEach(() => vi.useRealTimers())

describe('the set of open mappings, shares and copiers', () => {
  test('is counted, and closed with the table', async () => {
    await using m = twoDomains()
    const front = new GrantTable(m.front.grants)
    const back = new GrantTable(m.back.grants)
    const ring = front.share({ domid: m.back.domid, pages: 4, writable: true })
    const data = front.share({ domid: m.back.domid, pages: 11, writable: true })
    expect(front.stats).toEqual({ ...nothing, shares: 2, sharedPages: 15 })
    const mapping = await back.map(m.refs(ring.grefs), { writable: true })
    await back.map(m.refs(data.grefs.subarray(0, 1)), { writable: false })
    back.openCopier({ domid: m.front.domid, capacity: 8 })
    expect(back.stats).toEqual({ ...nothing, mappings: 2, mappedPages: 5, copiers: 1 })
    mapping.close()
    mapping.close()
    expect(back.stats).toEqual({ ...nothing, mappings: 1, mappedPages: 1, copiers: 1 })
    for (const table of [back, front]) {
      table.close()
      table.close()
      expect(table.stats).toEqual(nothing)
    }
  })

  test("reports one that can't be closed, after the rest is closed", async () => {
    await using m = twoDomains()
    const front = new GrantTable(m.front.grants)
    const back = new GrantTable(m.back.grants)
    const mapped = front.share({ domid: m.back.domid, pages: 1, writable: true })
    front.share({ domid: m.back.domid, pages: 2, writable: true })
    await back.map(m.refs(mapped.grefs), { writable: true })
    expect(() => front.close()).toThrow(GrantError)
    expect(front.stats).toEqual({ ...nothing, shares: 1, sharedPages: 1 })
    back.close()
    front.close()
    expect(front.stats).toEqual(nothing)
  })

  test('shrinks as each is disposed of', async () => {
    await using m = twoDomains()
    using front = new GrantTable(m.front.grants)
    using back = new GrantTable(m.back.grants)
    {
      using share = front.share({ domid: m.back.domid, pages: 2, writable: true })
      using mapping = await back.map(m.refs(share.grefs), { writable: true })
      using copier = back.openCopier({ domid: m.front.domid, capacity: 1 })
      expect([mapping.bytes.length, copier.capacity, back.stats.mappings]).toEqual([8192, 1, 1])
    }
    expect([front.stats, back.stats]).toEqual([nothing, nothing])
  })

  test('stays empty after close', async () => {
    await using m = twoDomains()
    const back = new GrantTable(m.back.grants)
    back.close()
    await expect(back.map(m.refs([9]), { writable: true })).rejects.toThrow(
      'the grant table is closed',
    )
    expect(() => back.share({ domid: m.front.domid, pages: 1, writable: true })).toThrow(TypeError)
    expect(() => back.openCopier({ domid: m.front.domid, capacity: 1 })).toThrow(TypeError)
  })
})

describe('map', () => {
  test.each([0, 1, 2, 3])('maps none when the ref at %i fails, and says which', async (bad) => {
    await using m = twoDomains()
    using front = new GrantTable(m.front.grants)
    using back = new GrantTable(m.back.grants)
    const refs = m.refs(front.share({ domid: m.back.domid, pages: 4, writable: true }).grefs)
    const broken = refs.with(bad, { domid: m.front.domid, gref: UNGRANTED })
    await expect(back.map(broken, { writable: true })).rejects.toThrow(
      `gref ${UNGRANTED} of domain ${m.front.domid}: GNTST_`,
    )
    expect(back.stats).toEqual(nothing)
    const mapping = await back.map(refs, { writable: true })
    expect(mapping.byteOffset).toBe(mapping.bytes.byteOffset)
  })

  test('notifies the frontend when a mapping ends', async () => {
    await using m = twoDomains()
    using front = new GrantTable(m.front.grants)
    using back = new GrantTable(m.back.grants)
    const share = front.share({ domid: m.back.domid, pages: 1, writable: true })
    share.notifyOnUnmap({ clearByte: 1 })
    const mapping = await back.map(m.refs(share.grefs), { writable: true })
    mapping.notifyOnUnmap({ clearByte: 0 })
    share.bytes.fill(0xff, 0, 2)
    mapping.close()
    expect([...share.bytes.subarray(0, 2)]).toEqual([0, 0xff])
  })
})

describe('a paged-out page (GNTST_eagain)', () => {
  test('is mapped when it comes back', async () => {
    await using m = twoDomains()
    using front = new GrantTable(m.front.grants)
    using back = new GrantTable(withShortage(m.back.grants, { calls: 3 }))
    const share = front.share({ domid: m.back.domid, pages: 1, writable: true })
    await back.map(m.refs(share.grefs), { writable: true })
    expect(back.stats).toEqual({ ...nothing, mappings: 1, mappedPages: 1, retries: 3 })
  })

  test('is given up after a quarter of a second', async () => {
    await using m = twoDomains()
    using back = new GrantTable(withShortage(m.back.grants, { calls: Infinity }))
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const outcome = vi.fn<(error: unknown) => void>()
    const mapped = back.map(m.refs([9]), { writable: true }).catch(outcome)
    await vi.advanceTimersByTimeAsync(254)
    expect(outcome).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(1)
    await mapped
    expect(outcome).toHaveBeenCalledExactlyOnceWith(
      expect.objectContaining({ details: { status: GNTST.eagain } }),
    )
    expect(outcome.mock.calls[0]?.[0]).toBeInstanceOf(GrantError)
    expect(back.stats.retries).toBe(8)
  })

  test('is not waited for once the signal aborts or the table is closed', async () => {
    await using m = twoDomains()
    const back = new GrantTable(withShortage(m.back.grants, { calls: Infinity }))
    const abort = new AbortController()
    const aborted = back.map(m.refs([9]), { writable: true, signal: abort.signal })
    const closed = back.map(m.refs([9]), { writable: true })
    abort.abort(new Error('enough'))
    await expect(aborted).rejects.toThrow('enough')
    await expect(back.map(m.refs([9]), { writable: true, signal: abort.signal })).rejects.toThrow(
      'enough',
    )
    back.close()
    await expect(closed).rejects.toThrow('the grant table is closed')
  })
})
