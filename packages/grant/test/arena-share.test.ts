import { type Arena, ArenaFullError } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { ArenaShare } from '../src/index.ts'

/** An arena that only counts its pages. */
function arenaOf(pages: number) {
  let used = 0
  const arena: Arena = {
    buffer: new ArrayBuffer(0),
    pages,
    mappings: pages,
    tenants: new Set(),
    waiting: new Set(),
    hold: () => expect.unreachable('nothing is abandoned'),
    allocate(count) {
      if (used + count > pages) throw new ArenaFullError('full', {})
      used += count
      const close = (): void => void (used -= count)
      return { byteOffset: 0, bytes: new Uint8Array(0), close, [Symbol.dispose]: close }
    },
  }
  return { arena, used: () => used }
}

/**
 * A connection that keeps single pages mapped. It can't give up a page while the page is in use.
 */
class Tenant {
  readonly share: ArenaShare
  readonly #arena: Arena
  readonly #cached: { close(): void }[] = []
  busy = 0

  constructor(arena: Arena, domid: number) {
    this.#arena = arena
    this.share = new ArenaShare(arena, domid)
    this.share.canGive((count) => {
      for (let left = count; left > 0 && this.#cached.length > this.busy; left--) {
        this.#cached.pop()?.close()
        this.share.uncache(1)
      }
    })
  }

  add(): boolean {
    if (!this.share.cache(1)) return false
    this.#cached.push(this.share.fit(() => this.#arena.allocate(1)))
    return true
  }

  addAll(count: number): boolean[] {
    return Array.from({ length: count }, () => this.add())
  }
}

const all = (count: number, value: boolean): boolean[] => Array.from({ length: count }, () => value)

describe('pages that stay mapped', () => {
  test('of the only domain may fill half of the arena, and replace each other in it', () => {
    const { arena } = arenaOf(100)
    const one = new Tenant(arena, 1)
    expect(one.addAll(60)).toEqual(all(60, true))
    expect(one.share.cached).toBe(50)
    one.busy = 50
    expect(one.add()).toBe(false)
  })

  test('are given up by the domain with most, until all have equally many', () => {
    const { arena } = arenaOf(100)
    const [one, two, three] = [new Tenant(arena, 1), new Tenant(arena, 2), new Tenant(arena, 3)]
    one.addAll(50)
    two.addAll(40)
    expect([one.share.cached, two.share.cached]).toEqual([25, 25])
    three.addAll(40)
    const cached = [one, two, three].map(({ share }) => share.cached)
    expect(Math.max(...cached) - Math.min(...cached)).toBeLessThanOrEqual(1)
  })

  test('are counted per domain: several disks get no more than a single one', () => {
    const { arena } = arenaOf(100)
    const disks = [1, 1, 1, 1].map((domid) => new Tenant(arena, domid))
    for (const disk of disks) disk.addAll(40)
    const other = new Tenant(arena, 2)
    other.addAll(40)
    expect(other.share.cached).toBe(25)
    for (const disk of disks) disk.addAll(40)
    expect(other.share.cached).toBe(25)
  })

  test('stay while in use: the domain gives up its own instead', () => {
    const { arena } = arenaOf(100)
    const [one, two] = [new Tenant(arena, 1), new Tenant(arena, 2)]
    one.addAll(50)
    one.busy = 48
    expect(two.addAll(4)).toEqual([true, true, true, true])
    // The domain that needs room evicts its own pages, because the other domain's pages are in use.
    expect([one.share.cached, two.share.cached]).toEqual([48, 2])
  })
})

test('each domain has an equal part for requests, and one part is free for the next', () => {
  const take = fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 40 }))
  fc.assert(
    fc.property(fc.array(take, { maxLength: 100 }), (takes) => {
      const { arena } = arenaOf(1000)
      const shares = Array.from({ length: 6 }, (_, i) => new ArenaShare(arena, i >> 1))
      for (const [i, pages] of takes) if (shares[i]?.mayWork(pages)) shares[i]?.work(pages)
      const working = (domid: number): number =>
        shares.reduce((sum, share) => sum + (share.domid === domid ? share.working : 0), 0)
      for (const domid of [0, 1, 2]) {
        expect(working(domid)).toBeLessThanOrEqual(125)
        if (working(domid) === 0) expect(shares[domid * 2]?.mayWork(125)).toBe(true)
      }
    }),
  )
})

describe('a full arena', () => {
  test('gives up idle pages until there is room, where there are most first', () => {
    const { arena } = arenaOf(100)
    const tenants = [1, 2].map((domid) => new Tenant(arena, domid))
    tenants[0]?.addAll(10)
    tenants[1]?.addAll(40)
    const [one, two] = tenants
    const own = one?.share.allocate(60)
    expect([one?.share.cached, two?.share.cached]).toEqual([10, 0])
    const more = one?.share.allocate(40)
    expect([one?.share.cached, two?.share.cached]).toEqual([0, 0])
    own?.close()
    more?.close()
  })

  test('with nothing idle is an error', () => {
    const { arena, used } = arenaOf(100)
    const one = new Tenant(arena, 1)
    one.addAll(30)
    one.busy = 30
    expect(() => one.share.allocate(71)).toThrow(ArenaFullError)
    expect([one.share.cached, used()]).toEqual([30, 30])
  })

  test('passes on other errors', () => {
    const { arena } = arenaOf(100)
    const fault = (): never => {
      throw new RangeError('other')
    }
    expect(() => new ArenaShare(arena, 1).fit(fault)).toThrow('other')
  })

  test('can be waited for while requests are in flight, and each callback runs once', async () => {
    const { arena } = arenaOf(100)
    const [one, two] = [new ArenaShare(arena, 1), new ArenaShare(arena, 2)]
    const wake = vi.fn<() => void>()
    expect(two.whenFree(wake)).toBe(false)
    one.work(10)
    expect(two.whenFree(wake)).toBe(true)
    one.rest(4)
    // The waiting connection must not be called from within the call that frees pages.
    expect(wake).not.toHaveBeenCalled()
    await Promise.resolve()
    one.rest(6)
    await Promise.resolve()
    expect(wake).toHaveBeenCalledOnce()
    one.work(1)
    two.whenFree(wake)
    // A connection that ends frees all of its pages.
    one.close()
    await Promise.resolve()
    expect(wake).toHaveBeenCalledTimes(2)
    expect([...arena.tenants]).toEqual([two])
  })
})
