import { ArenaFullError, GrantError } from '@xenkit/hypervisor'
import { describe, expect, test } from 'vitest'
import { type ArenaLimits, attachDomain, createMachine } from '../src/index.ts'

function twoDomains(arena: ArenaLimits) {
  const machine = createMachine()
  const [back, front] = [machine.createDomain({ arena }), machine.createDomain()]
  const share = front.grants.share({ domid: back.domid, pages: 6, writable: true })
  const refs = (...pages: number[]) =>
    pages.map((page) => ({ domid: front.domid, gref: share.grefs[page] ?? -1 }))
  return { machine, back, front, share, refs }
}

describe('an arena', () => {
  test('has room for a number of pages of any kind', async () => {
    const { machine, back, front, share, refs } = twoDomains({ pages: 8 })
    const own = back.arena.allocate(3)
    const shared = back.grants.share({ domid: front.domid, pages: 2, writable: true })
    const mapping = back.grants.map(refs(0, 1), { writable: true })
    const apart = back.grants.mapPages(refs(5), { writable: false })
    const more = [
      () => back.arena.allocate(1),
      () => back.grants.share({ domid: front.domid, pages: 1, writable: true }),
      () => back.grants.map(refs(2), { writable: true }),
      () => back.grants.mapPages(refs(2), { writable: true }),
    ]
    for (const call of more) expect(call).toThrow(ArenaFullError)
    for (const each of [own, shared, mapping, apart]) {
      each.close()
      each.close()
    }
    back.arena.allocate(8).close()
    share.close()
    await machine[Symbol.asyncDispose]()
  })

  test('has room for a number of mappings of any size', async () => {
    const { machine, back, share, refs } = twoDomains({ mappings: 2 })
    const apart = back.grants.mapPages(refs(4, 2, 0), { writable: true })
    const mapping = back.grants.map(refs(1), { writable: true })
    expect(() => back.grants.mapPages(refs(3), { writable: true })).toThrow(ArenaFullError)
    apart.close()
    back.grants.mapPages(refs(3, 5), { writable: true }).close()
    mapping.close()
    share.close()
    await machine[Symbol.asyncDispose]()
  })

  test('has the same size, and separate room, in another thread of the domain', async () => {
    const { machine, back, share } = twoDomains({ pages: 4, mappings: 3 })
    const own = back.arena.allocate(4)
    const again = attachDomain(back.forThread())
    expect([again.arena.pages, again.arena.mappings]).toEqual([4, 3])
    expect(again.arena.tenants).not.toBe(back.arena.tenants)
    const other = again.arena.allocate(4)
    expect(() => again.arena.allocate(1)).toThrow(ArenaFullError)
    own.close()
    other.close()
    await again.close()
    share.close()
    await machine[Symbol.asyncDispose]()
  })

  test('loses no room to calls that fail', async () => {
    const { machine, back, share, refs } = twoDomains({ pages: 2, mappings: 1 })
    const bad = [...refs(0), { domid: 1, gref: 5 }]
    for (let tries = 0; tries < 3; tries++) {
      expect(() => back.grants.map(bad, { writable: true })).toThrow(GrantError)
      expect(() => back.grants.mapPages(bad, { writable: true })).toThrow(GrantError)
      const tooMany = { domid: 1, pages: 3, writable: true }
      expect(() => back.grants.share(tooMany)).toThrow(ArenaFullError)
    }
    back.arena.allocate(2).close()
    share.close()
    await machine[Symbol.asyncDispose]()
  })
})

test('pages that lie apart are mapped in place, all or none', async () => {
  const { machine, back, share, refs } = twoDomains({})
  share.bytes.forEach((_, i) => (share.bytes[i] = i >> 12))
  const memory = new Uint8Array(back.arena.buffer)
  for (const bad of [0, 1, 2]) {
    const broken = refs(4, 2, 0).with(bad, { domid: 1, gref: 5 })
    expect(() => back.grants.mapPages(broken, { writable: true })).toThrow('gref 5 of domain 1')
  }
  for (const writable of [true, false]) {
    const pages = back.grants.mapPages(refs(4, 2, 0), { writable })
    expect(Array.from(pages.offsets, (offset) => memory[offset])).toEqual([4, 2, 0])
    pages.close()
  }
  share.close()
  await machine[Symbol.asyncDispose]()
})
