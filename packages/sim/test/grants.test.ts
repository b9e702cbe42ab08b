import { ArenaFullError, GrantError } from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { settled, statusOf, twoDomains } from './support/machine.ts'

const refsOf = (domid: number, grefs: Iterable<number>) =>
  [...grefs].map((gref) => ({ domid, gref }))

test('both sides see the same bytes, in the order of the refs', async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 3, writable: true })
  using mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: true })
  expect(share.bytes.every((byte) => byte === 0)).toBe(true)
  share.bytes[2 * 4096 + 5] = 0xaa
  expect(mapping.bytes[2 * 4096 + 5]).toBe(0xaa)
  mapping.bytes[4096] = 0x55
  expect(share.bytes[4096]).toBe(0x55)
  expect(mapping.bytes.buffer).toBe(m.back.arena.buffer)
  expect(mapping.byteOffset % 4096).toBe(0)
  expect(mapping.byteOffset).toBe(mapping.bytes.byteOffset)
})

test('a refused map has the status of Xen', async () => {
  await using m = twoDomains({ grants: 64 })
  const stranger = m.machine.createDomain()
  const share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: false })
  const [gref = 0] = share.grefs
  const ref = { domid: m.front.domid, gref }
  expect(statusOf(() => m.back.grants.map([{ domid: 77, gref }], { writable: false }))).toBe(
    GNTST.bad_domain,
  )
  expect(
    statusOf(() => m.back.grants.map([{ domid: m.front.domid, gref: 64 }], { writable: false })),
  ).toBe(GNTST.bad_gntref)
  expect(
    statusOf(() => m.back.grants.map([{ domid: m.front.domid, gref: 3 }], { writable: false })),
  ).toBe(GNTST.general_error)
  expect(statusOf(() => m.back.grants.map([ref], { writable: true }))).toBe(GNTST.general_error)
  expect(statusOf(() => stranger.grants.map([ref], { writable: false }))).toBe(GNTST.general_error)
  expect(statusOf(() => m.back.grants.map([ref], { writable: false }).close())).toBe(GNTST.okay)
  share.close()
  expect(statusOf(() => m.back.grants.map([ref], { writable: false }))).toBe(GNTST.general_error)
  expect(() => m.back.grants.map([ref], { writable: false })).toThrow(
    `cannot map gref ${gref} of domain 1: GNTST_general_error, nothing is granted by this reference`,
  )
})

test('all pages are mapped or none', async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 2, writable: true })
  const refs = [...refsOf(m.front.domid, share.grefs), { domid: m.front.domid, gref: 2 }]
  expect(() => m.back.grants.map(refs, { writable: true })).toThrow(GrantError)
})

test("pages that aren't contiguous are refused: a limit of sim", async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 2, writable: true })
  const refs = refsOf(m.front.domid, share.grefs).toReversed()
  expect(() => m.back.grants.map(refs, { writable: true })).toThrow('sim has no MMU')
  for (const ref of refs) m.back.grants.map([ref], { writable: true }).close()
})

test('references are scattered, and none is reserved', async () => {
  await using m = twoDomains({ seed: 5 })
  using share = m.front.grants.share({ domid: m.back.domid, pages: 64, writable: true })
  const grefs = [...share.grefs]
  expect(new Set(grefs).size).toBe(64)
  expect(Math.min(...grefs)).toBeGreaterThanOrEqual(8)
  expect(grefs.filter((gref, page) => gref === (grefs[page - 1] ?? 0) + 1).length).toBeLessThan(8)
})

test('revoking a mapped page is an error, and the share stays', async () => {
  await using m = twoDomains()
  const share = m.front.grants.share({ domid: m.back.domid, pages: 2, writable: true })
  const mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs.subarray(1)), {
    writable: false,
  })
  expect(() => share.close()).toThrow(/cannot revoke gref \d+ of domain 1: it is still mapped/)
  expect(() => m.machine.assertQuiescent()).toThrow('maps gref')
  mapping.close()
  share.close()
  share.close()
})

test('an unmap clears the byte, then notifies', async () => {
  await using m = twoDomains()
  const heard: (number | undefined)[] = []
  const share = m.front.grants.share({ domid: m.back.domid, pages: 2, writable: true })
  const port = m.front.evtchn.bindUnbound({ domid: m.back.domid }, () =>
    heard.push(share.bytes[4097]),
  )
  const mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: true })
  const remote = m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: port.port }, () => {})
  share.bytes[4097] = 1
  mapping.notifyOnUnmap({ clearByte: 4097, port: remote.port })
  mapping.close()
  expect(share.bytes[4097]).toBe(0)
  await expect.poll(() => heard).toEqual([0])
  for (const open of [share, port, remote]) open.close()
})

/**
 * Maps one granted page and binds an event channel, in a machine with three domains of two ports
 * each.
 */
async function notifying() {
  const m = twoDomains({ ports: 3 })
  const third = m.machine.createDomain()
  let heard = 0
  const share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  const port = m.front.evtchn.bindUnbound({ domid: m.back.domid }, () => heard++)
  const mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: true })
  const remote = { domid: m.front.domid, port: port.port }
  const channel = m.back.evtchn.bindInterdomain(remote, () => expect.unreachable())
  return { ...m, third, share, port, mapping, channel, heard: () => heard }
}

test('an unmap notifies the right port even after its channel was closed', async () => {
  const m = await notifying()
  await using machine = m
  m.mapping.notifyOnUnmap({ port: m.channel.port })
  m.mapping.notifyOnUnmap({ port: m.channel.port }) // set twice: still one event and one reference
  m.channel.close()
  const isOpen = `port ${m.channel.port} of domain 0 is open`
  expect(() => machine.machine.assertQuiescent()).toThrow(isOpen)
  const other = m.back.evtchn.bindUnbound({ domid: m.third.domid }, () => {})
  expect(other.port).not.toBe(m.channel.port)
  expect(() => m.back.evtchn.bindUnbound({ domid: m.third.domid }, () => {})).toThrow('ENOSPC')
  const third = m.third.evtchn.bindInterdomain({ domid: m.back.domid, port: other.port }, () => {})
  m.port.notify() // an event on a closed port, which nobody receives
  m.mapping.close()
  await expect.poll(m.heard).toBe(1)
  m.port.notify() // the unmap freed the other end's port, so this reaches nobody
  for (const open of [m.share, m.port, other, third]) open.close()
})

test.each(['another port', 'nothing'])(
  'replaced by %s, a notification frees its port',
  async (what) => {
    const m = await notifying()
    await using _ = m
    using other = m.back.evtchn.bindUnbound({ domid: m.third.domid }, () => {})
    m.mapping.notifyOnUnmap({ port: m.channel.port })
    m.channel.close()
    m.mapping.notifyOnUnmap(what === 'nothing' ? {} : { port: other.port })
    const bind = () => m.back.evtchn.bindUnbound({ domid: m.third.domid }, () => {})
    expect(() => bind().close()).not.toThrow() // `bind` finds a free port again
    m.mapping.close()
    m.share.close()
    m.port.close()
  },
)

test('closing a share notifies even after the channel was closed', async () => {
  await using m = twoDomains()
  let heard = 0
  const share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  const port = m.front.evtchn.bindUnbound({ domid: m.back.domid }, () => {})
  const remote = m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: port.port }, () => {
    heard++
    remote.unmask()
  })
  await settled()
  share.notifyOnUnmap({ port: port.port })
  port.close()
  const before = heard
  share.close()
  await expect.poll(() => heard).toBe(before + 1)
  remote.close()
})

test('an unmap notification is refused for a missing port or byte', async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  using mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: false })
  expect(() => mapping.notifyOnUnmap({ port: 5 })).toThrow('EINVAL')
  expect(() => mapping.notifyOnUnmap({ clearByte: 0 })).toThrow('read-only')
  expect(() => mapping.notifyOnUnmap({ clearByte: 4096 })).toThrow(RangeError)
  expect(() => share.notifyOnUnmap({ clearByte: -1 })).toThrow(RangeError)
})

test('a share that notifies the other side may be closed while mapped', async () => {
  await using m = twoDomains()
  let heard = 0
  const share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  const port = m.front.evtchn.bindUnbound({ domid: m.back.domid }, () => {})
  const mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: true })
  const remote = m.back.evtchn.bindInterdomain(
    { domid: m.front.domid, port: port.port },
    () => heard++,
  )
  await settled()
  remote.unmask()
  heard = 0
  mapping.bytes.fill(9)
  share.notifyOnUnmap({ clearByte: 1, port: port.port })
  share.close()
  await expect.poll(() => heard).toBe(1)
  expect([...mapping.bytes.subarray(0, 3)]).toEqual([9, 0, 9])
  // Although its owner closed the share, the page stays the mapper's until the unmap: nobody else
  // can allocate or map it.
  expect(() => m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: true })).toThrow(
    GrantError,
  )
  const others = Array.from({ length: 8 }, () => m.front.arena.allocate(1))
  expect(others.some(({ byteOffset }) => byteOffset === mapping.byteOffset)).toBe(false)
  for (const open of [...others, port, remote, mapping]) open.close()
})

test('grants of a domain are limited, and reusable', async () => {
  await using m = twoDomains({ grants: 16 })
  const share = m.front.grants.share({ domid: m.back.domid, pages: 7, writable: true })
  expect(
    statusOf(() => m.front.grants.share({ domid: m.back.domid, pages: 2, writable: true })),
  ).toBe(GNTST.no_space)
  using last = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  share.close()
  using again = m.front.grants.share({ domid: m.back.domid, pages: 7, writable: true })
  expect(again.grefs).not.toContain(last.grefs[0])
})

test('memory is limited, and zeroed when reused', async () => {
  await using m = twoDomains({ pages: 17 })
  const pages = m.back.arena.allocate(16)
  pages.bytes.fill(0xff)
  expect(() => m.front.arena.allocate(1)).toThrow(ArenaFullError)
  expect(() => m.front.grants.share({ domid: 0, pages: 1, writable: true })).toThrow(ArenaFullError)
  pages.close()
  using again = m.front.arena.allocate(16)
  expect(again.byteOffset).toBe(4096)
  expect(again.bytes.every((byte) => byte === 0)).toBe(true)
})

test('arguments are checked first', async () => {
  await using m = twoDomains()
  expect(() => m.back.grants.map([], { writable: true })).toThrow(RangeError)
  expect(() => m.back.grants.map([{ domid: -1, gref: 1 }], { writable: true })).toThrow(RangeError)
  expect(() => m.back.grants.map([{ domid: 1, gref: 1.5 }], { writable: true })).toThrow(TypeError)
  expect(() => m.back.grants.share({ domid: 0x7ff0, pages: 1, writable: true })).toThrow(RangeError)
  expect(() => m.back.grants.share({ domid: 1, pages: 0, writable: true })).toThrow(RangeError)
  expect(() => m.back.grants.openCopyBatch({ domid: 1, capacity: 0 })).toThrow(RangeError)
  expect(() => m.back.arena.allocate(0)).toThrow(RangeError)
})

test('a store through a read-only mapping is reported, and does not reach the page', async () => {
  const m = twoDomains()
  const share = m.front.grants.share({ domid: m.back.domid, pages: 2, writable: true })
  share.bytes.fill(3)
  const mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: false })
  mapping.bytes[4096 + 17] = 9
  expect(share.bytes.every((byte) => byte === 3)).toBe(true)
  mapping.close()
  share.close()
  const told = `domain 0 stored to byte 17 of the page of gref ${share.grefs[1]} of domain 1`
  expect(() => m.machine.assertQuiescent()).toThrow(told)
  await m.machine.close()
})

test('a grant copy into a read-only mapping is refused', async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  using mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: false })
  using batch = m.back.grants.openCopyBatch({ domid: m.front.domid, capacity: 1 })
  batch.gref[0] = share.grefs[0] ?? 0
  batch.length[0] = 16
  batch.local[0] = mapping.byteOffset
  expect(() => batch.copyIn(1)).toThrow('has no writable page there')
  expect(batch.copyOut(1)).toBe(0)
})

test('a guest may change a page that is mapped read-only', async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 1, writable: true })
  const mapping = m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: false })
  share.bytes.fill(5)
  expect(mapping.bytes.every((byte) => byte === 0)).toBe(true)
  mapping.close()
  expect(share.bytes.every((byte) => byte === 5)).toBe(true)
})

test('a live mapping shows what the guest stores, read-only too', async () => {
  await using m = twoDomains()
  using share = m.front.grants.share({ domid: m.back.domid, pages: 2, writable: false })
  const refs = refsOf(m.front.domid, share.grefs)
  using mapped = m.back.grants.mapPages(refs, { writable: false, live: true })
  share.bytes.fill(5)
  for (const offset of mapped.offsets) {
    expect(new Uint8Array(m.back.arena.buffer, offset, 4096).every((byte) => byte === 5)).toBe(true)
  }
})

test('a read-only mapping without room for its copy leaves nothing open', async () => {
  await using m = twoDomains({ pages: 3 })
  using share = m.front.grants.share({ domid: m.back.domid, pages: 2, writable: true })
  const map = () => m.back.grants.map(refsOf(m.front.domid, share.grefs), { writable: false })
  expect(map).toThrow(ArenaFullError)
})
