/**
 * Destroying a domain that is in the middle of something: nothing of it stays, and no other domain
 * is affected.
 */
import { NotAvailableError } from '@xenkit/hypervisor'
import { expect, test } from 'vitest'
import { settled, twoDomains } from './support/machine.ts'
import { startThread } from './support/threads/start-thread.ts'

const nothing = (): void => {}

test('its pages stay while mapped, and ports bound to it become unbound', async () => {
  await using m = twoDomains({ pages: 32 })
  const share = m.front.grants.share({ domid: 0, pages: 2, writable: true })
  const port = m.front.evtchn.bindUnbound({ domid: 0 }, nothing)
  const mapping = m.back.grants.map(
    [...share.grefs].map((gref) => ({ domid: 1, gref })),
    { writable: true },
  )
  const binding = m.back.evtchn.bindInterdomain({ domid: 1, port: port.port }, nothing)
  share.bytes.fill(7)
  m.machine.destroyDomain(1)
  m.machine.destroyDomain(1)
  expect(mapping.bytes.every((byte) => byte === 7)).toBe(true)
  expect(() => m.back.arena.allocate(30)).toThrow('no run of 30 free pages')
  binding.notify()
  binding.unmask()
  expect(() => m.machine.assertQuiescent()).toThrow('is open: waits for domain 1')
  mapping.close()
  m.back.arena.allocate(31).close()
  binding.close()
})

test('its own mappings are dropped, and their unmap notifications fire', async () => {
  await using m = twoDomains()
  let heard = 0
  const share = m.back.grants.share({ domid: 1, pages: 1, writable: true })
  const port = m.back.evtchn.bindUnbound({ domid: 1 }, () => heard++)
  const mapping = m.front.grants.map([{ domid: 0, gref: share.grefs[0] ?? 0 }], { writable: true })
  const binding = m.front.evtchn.bindInterdomain({ domid: 0, port: port.port }, nothing)
  mapping.bytes[20] = 1
  mapping.notifyOnUnmap({ clearByte: 20, port: binding.port })
  m.machine.destroyDomain(1)
  expect(share.bytes[20]).toBe(0)
  await expect.poll(() => heard).toBe(1)
  share.close()
  port.close()
})

test('its later calls are refused, except closing, which does nothing', async () => {
  await using m = twoDomains()
  const share = m.front.grants.share({ domid: 0, pages: 1, writable: true })
  const port = m.front.evtchn.bindUnbound({ domid: 0 }, nothing)
  const own = m.front.arena.allocate(1)
  const batch = m.front.grants.openCopyBatch({ domid: 0, capacity: 1 })
  m.machine.destroyDomain(1)
  // The new domain reuses the destroyed one's table slots. The old handles below must not touch it.
  const later = m.machine.createDomain()
  expect(later.domid).toBe(2)
  const refused = [
    () => m.front.arena.allocate(1),
    () => m.front.grants.share({ domid: 0, pages: 1, writable: true }),
    () => m.front.grants.map([{ domid: 0, gref: 9 }], { writable: true }),
    () => batch.copyIn(0),
    () => m.front.evtchn.bindUnbound({ domid: 0 }, nothing),
    () => port.notify(),
    () => port.unmask(),
    () => m.front.forThread() && m.front.arena.allocate(1),
  ]
  for (const call of refused) expect(call).toThrow(NotAvailableError)
  await expect(m.front.xenstore.connect({ data: nothing, closed: nothing })).rejects.toThrow(
    'domain 1 was destroyed',
  )
  for (const open of [share, port, own, batch]) open.close()
  await m.front.close()
})

test('its xenstore connection ends, its nodes are removed, @releaseDomain fires', async () => {
  await using m = twoDomains()
  const reasons: Error[] = []
  await m.front.xenstore.connect({ data: nothing, closed: (reason) => reasons.push(reason) })
  expect(m.machine.xenstored.store.get('/local/domain/1/domid')).toBeDefined()
  m.machine.destroyDomain(1)
  await settled()
  expect(reasons.length).toBe(1)
  expect(m.machine.xenstored.store.get('/local/domain/1')).toBeUndefined()
  expect(m.machine.xenstored.introduced(1)).toBeUndefined()
})

test('slots of destroyed domains are reused, domids are not', async () => {
  await using m = twoDomains({ pages: 16, grants: 16, ports: 8 })
  const domids = new Set([0, 1])
  for (let life = 0; life < 200; life++) {
    const domain = m.machine.createDomain()
    expect(domids).not.toContain(domain.domid)
    domids.add(domain.domid)
    domain.grants.share({ domid: 0, pages: 4, writable: true })
    domain.evtchn.bindUnbound({ domid: 0 }, nothing)
    m.machine.destroyDomain(domain.domid)
  }
})

test('there is room for 64 domains', async () => {
  await using m = twoDomains({ pages: 2, grants: 16, ports: 2 })
  for (let domid = 2; domid < 64; domid++) m.machine.createDomain()
  expect(() => m.machine.createDomain()).toThrow('room for 64 domains')
  m.machine.destroyDomain(5)
  expect(m.machine.createDomain().domid).toBe(69)
})

test(
  'the machine survives a thread terminated anywhere, once its domain is destroyed',
  { timeout: 60_000 },
  async () => {
    await using m = twoDomains()
    for (let run = 0; run < 8; run++) {
      const domain = m.machine.createDomain()
      await using thread = startThread('churn.ts', domain, [1_000_000, 0])
      await thread.next()
      // Let the thread run for 0 to 21 rounds of the event loop, so that each run ends it
      // elsewhere.
      for (let step = 0; step < run * 3; step++) {
        await new Promise((resolve) => setImmediate(resolve))
      }
      await thread.terminate()
      m.machine.destroyDomain(domain.domid)
      expect(() => m.machine.assertQuiescent()).not.toThrow()
    }
  },
)

test('a thread that runs on after its domain was destroyed gets an error', async () => {
  await using m = twoDomains()
  await using thread = startThread('churn.ts', m.front, [1_000_000, 0])
  await thread.next()
  m.machine.destroyDomain(1)
  await expect(thread.ended()).rejects.toThrow('domain 1 was destroyed')
})
