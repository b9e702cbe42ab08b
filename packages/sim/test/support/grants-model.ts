/**
 * Compares grants with a model: which domain may map a page, what closing a share ends, and that
 * every page keeps its bytes while any domain can read it. Domains are destroyed in between.
 */
import { ArenaFullError, type GrantMapping, type GrantShare } from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'
import * as fc from 'fast-check'
import { assert } from 'vitest'
import type { SimDomain, SimMachine } from '../../src/index.ts'
import { statusOf } from './machine.ts'

interface Share {
  readonly grantor: SimDomain
  readonly grantee: SimDomain
  readonly writable: boolean
  readonly share: GrantShare
  /**
   * The byte that fills the share's pages now. No two shares have the same, so that a page wrongly
   * given to another shows.
   */
  mark: number
  open: boolean
}
interface Mapping {
  readonly mapper: SimDomain
  readonly of: Share
  readonly writable: boolean
  readonly mapping: GrantMapping
  /** The share's `mark` at the time of mapping. A read-only mapping keeps showing it. */
  readonly markAtMap: number
  closed: boolean
}
export interface World {
  readonly machine: SimMachine
  /** Domains that exist now; those that were destroyed are replaced. */
  readonly domains: SimDomain[]
  readonly shares: Share[]
  readonly mappings: Mapping[]
  marks: number
}
/** fast-check passes a model and a real system. Here one object is both. */
type Command = fc.Command<World, World>

export const DOMAINS = 3
const isMapped = ({ mapper, closed }: Mapping, { domains }: World): boolean =>
  domains.includes(mapper) && !closed
const pick = <T>(items: readonly T[], at: number): T | undefined =>
  items[at % Math.max(1, items.length)]

class MakeShare implements Command {
  constructor(
    readonly from: number,
    readonly to: number,
    readonly pages: number,
    readonly writable: boolean,
  ) {}
  check = () => true
  run(world: World) {
    const grantor = pick(world.domains, this.from)
    const grantee = pick(world.domains, this.to)
    if (!grantor || !grantee) return
    let share: GrantShare
    try {
      share = grantor.grants.share({
        domid: grantee.domid,
        pages: this.pages,
        writable: this.writable,
      })
    } catch (error) {
      // Arenas are small, so that a page which is wrongly taken for free is soon reused. A full
      // arena is therefore no failure.
      if (error instanceof ArenaFullError) return
      throw error
    }
    assert.isTrue(share.bytes.every((byte) => byte === 0))
    world.marks = (world.marks % 250) + 1
    share.bytes.fill(world.marks)
    expectBytes(world)
    world.shares.push({
      grantor,
      grantee,
      writable: this.writable,
      share,
      mark: world.marks,
      open: true,
    })
  }
  toString = () =>
    `share(${this.pages} pages of #${this.from} to #${this.to}, ${this.writable ? 'writable' : 'read-only'})`
}

class MakeMapping implements Command {
  /** @param by index of the domain that maps; undefined: the domain that the page is granted to */
  constructor(
    readonly by: number | undefined,
    readonly at: number,
    readonly writable: boolean,
  ) {}
  check = (world: World) => world.shares.length > 0
  run(world: World) {
    const of = pick(world.shares, this.at)
    const mapper = this.by === undefined ? of?.grantee : pick(world.domains, this.by)
    // A closed share's grant references may belong to another share now, so don't map them.
    if (!of?.open || !mapper || !world.domains.includes(mapper)) return
    const refs = [...of.share.grefs].map((gref) => ({ domid: of.grantor.domid, gref }))
    const map = () => mapper.grants.map(refs, { writable: this.writable })
    if (of.grantee !== mapper || (this.writable && !of.writable)) {
      assert.equal(statusOf(map), GNTST.general_error)
      return
    }
    const { writable } = this
    const markAtMap = of.mark
    let mapping: GrantMapping
    try {
      mapping = map()
    } catch (error) {
      // A read-only mapping is a copy, which needs free pages.
      if (error instanceof ArenaFullError && !writable) return
      throw error
    }
    world.mappings.push({ mapper, of, writable, mapping, markAtMap, closed: false })
  }
  toString = () =>
    `map(share ${this.at} in #${this.by ?? 'its grantee'}, ${this.writable ? 'writable' : 'read-only'})`
}

class WriteThrough implements Command {
  constructor(readonly at: number) {}
  check = (world: World) => world.mappings.length > 0
  run(world: World) {
    const mapped = pick(world.mappings, this.at)
    if (!mapped || !mapped.writable || !isMapped(mapped, world)) return
    mapped.of.mark = (mapped.of.mark % 250) + 1
    mapped.mapping.bytes.fill(mapped.of.mark)
  }
  toString = () => `write(#${this.at})`
}

class Unmap implements Command {
  constructor(readonly at: number) {}
  check = (world: World) => world.mappings.length > 0
  run(world: World) {
    const mapped = pick(world.mappings, this.at)
    mapped?.mapping.close()
    if (mapped) mapped.closed = true
  }
  toString = () => `unmap(#${this.at})`
}

class Revoke implements Command {
  constructor(readonly at: number) {}
  check = (world: World) => world.shares.length > 0
  run(world: World) {
    const shared = pick(world.shares, this.at)
    if (!shared) return
    const mapped = world.mappings.some(
      (mapping) => mapping.of === shared && isMapped(mapping, world),
    )
    const alive = world.domains.includes(shared.grantor)
    const status = statusOf(() => shared.share.close())
    assert.equal(status, alive && shared.open && mapped ? -16 : 0)
    if (status === 0) shared.open = false
  }
  toString = () => `revoke(#${this.at})`
}

/** Destroys a domain and creates another one. */
class Restart implements Command {
  constructor(readonly at: number) {}
  check = () => true
  run(world: World) {
    const at = this.at % world.domains.length
    const old = world.domains[at]
    if (!old) return
    world.machine.destroyDomain(old.domid)
    world.domains[at] = world.machine.createDomain()
    for (const shared of world.shares) if (shared.grantor === old) shared.open = false
  }
  toString = () => `restart(#${this.at})`
}

/**
 * Checks the bytes of every page: a share and a writable mapping show the bytes written last, a
 * read-only mapping those from the time of mapping.
 */
export function expectBytes(world: World): void {
  const open = world.shares.filter((shared) => shared.open)
  for (const { share, mark } of open) {
    assert.equal(
      share.bytes.every((byte) => byte === mark),
      true,
    )
  }
  const mapped = world.mappings.filter((mapping) => isMapped(mapping, world))
  for (const { mapping, of, writable, markAtMap } of mapped) {
    const mark = writable ? of.mark : markAtMap
    assert.equal(
      mapping.bytes.every((byte) => byte === mark),
      true,
    )
  }
}

const pages = (shares: readonly Share[]): number =>
  shares.reduce((sum, { share }) => sum + share.grefs.length, 0)

/** Checks that the machine's list of open resources agrees with the model. */
export function expectAccount(world: World): void {
  const mapped = world.mappings.filter((mapping) => isMapped(mapping, world))
  const granted = world.shares.filter(({ open }) => open)
  let text = ''
  try {
    world.machine.assertQuiescent()
  } catch (error) {
    text = String(error)
  }
  assert.equal(text.match(/ maps gref /g)?.length ?? 0, pages(mapped.map(({ of }) => of)))
  assert.equal(text.match(/ grants gref /g)?.length ?? 0, pages(granted))
  assert.notInclude(text, 'allocated')
}

/** Generates sequences of calls on grants. */
export function grantCommands() {
  const domid = fc.nat({ max: DOMAINS - 1 })
  const at = fc.nat({ max: 7 })
  const share = fc
    .tuple(domid, domid, fc.integer({ min: 1, max: 3 }), fc.boolean())
    .map((args) => new MakeShare(...args))
  const map = fc
    .tuple(fc.option(domid, { nil: undefined, freq: 2 }), at, fc.boolean())
    .map((args) => new MakeMapping(...args))
  return fc.commands(
    [
      share,
      share,
      map,
      map,
      map,
      map,
      at.map((index) => new WriteThrough(index)),
      at.map((index) => new Unmap(index)),
      at.map((index) => new Revoke(index)),
      domid.map((id) => new Restart(id)),
    ],
    { maxCommands: 200, size: 'max' },
  )
}
