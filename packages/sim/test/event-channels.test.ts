import { EvtchnError } from '@xenkit/hypervisor'
import { expect, test } from 'vitest'
import { settled, twoDomains } from './support/machine.ts'

const nothing = (): void => {}

function errnoOf(call: () => unknown): unknown {
  try {
    call()
    return undefined
  } catch (error) {
    if (error instanceof EvtchnError) return error.errno
    throw error
  }
}

/** Binds a pair of ports, lets the event of binding arrive, and then counts each end's events. */
async function pair(m: ReturnType<typeof twoDomains>) {
  const count = { front: 0, back: 0 }
  const front = m.front.evtchn.bindUnbound({ domid: m.back.domid }, () => count.front++)
  const back = m.back.evtchn.bindInterdomain(
    { domid: m.front.domid, port: front.port },
    () => count.back++,
  )
  await expect.poll(() => count.back).toBe(1)
  back.unmask()
  return { front, back, count, close: () => [front, back].forEach((binding) => binding.close()) }
}

test('a new interdomain binding has a pending event, an unbound one has none', async () => {
  await using m = twoDomains({ seed: 2 })
  const p = await pair(m)
  expect(p.count).toEqual({ front: 0, back: 1 })
  p.close()
})

test('an event is never delivered within notify, nor within bind', async () => {
  await using m = twoDomains()
  let heard = 0
  const front = m.front.evtchn.bindUnbound({ domid: m.back.domid }, () => heard++)
  const back = m.back.evtchn.bindInterdomain(
    { domid: m.front.domid, port: front.port },
    () => heard++,
  )
  back.notify()
  front.notify()
  await Promise.resolve()
  expect(heard).toBe(0)
  await expect.poll(() => heard).toBe(2)
  front.close()
  back.close()
})

test('delivery masks; unmask delivers events that came meanwhile, once', async () => {
  await using m = twoDomains()
  const p = await pair(m)
  p.front.notify()
  p.front.notify()
  await expect.poll(() => p.count.back).toBe(2)
  p.front.notify()
  p.front.notify()
  await settled()
  expect(p.count.back).toBe(2)
  p.back.unmask()
  await expect.poll(() => p.count.back).toBe(3)
  await settled()
  expect(p.count.back).toBe(3)
  p.close()
})

test('no event is delivered after close; closing in a callback does not affect other ports', async () => {
  await using m = twoDomains()
  const heard: number[] = []
  const fronts = [0, 1, 2, 3].map(() =>
    m.front.evtchn.bindUnbound({ domid: m.back.domid }, nothing),
  )
  const backs = fronts.map((front, which) =>
    m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: front.port }, () => {
      heard.push(which)
      for (const other of backs) other.close()
    }),
  )
  await settled()
  expect(heard.length).toBe(1)
  for (const front of fronts) front.close()
})

test('a refused bind has the errno of Xen', async () => {
  await using m = twoDomains()
  const stranger = m.machine.createDomain()
  const front = m.front.evtchn.bindUnbound({ domid: m.back.domid }, nothing)
  expect(
    errnoOf(() => m.back.evtchn.bindInterdomain({ domid: 77, port: front.port }, nothing)),
  ).toBe('ESRCH')
  expect(
    errnoOf(() =>
      m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: 0xffff_ffff }, nothing),
    ),
  ).toBe('EINVAL')
  expect(
    errnoOf(() => m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: 0 }, nothing)),
  ).toBe('EINVAL')
  expect(
    errnoOf(() =>
      stranger.evtchn.bindInterdomain({ domid: m.front.domid, port: front.port }, nothing),
    ),
  ).toBe('EINVAL')
  const back = m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: front.port }, nothing)
  expect(
    errnoOf(() =>
      m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: front.port }, nothing),
    ),
  ).toBe('EINVAL')
  back.close()
  front.close()
  expect(
    errnoOf(() =>
      m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: front.port }, nothing),
    ),
  ).toBe('EINVAL')
  expect(errnoOf(() => front.notify())).toBe('ENOTCONN')
  front.unmask()
})

test('after a close the other end can be bound again, by the same domain', async () => {
  await using m = twoDomains()
  const p = await pair(m)
  p.back.close()
  p.front.notify()
  let heard = 0
  const again = m.back.evtchn.bindInterdomain(
    { domid: m.front.domid, port: p.front.port },
    () => heard++,
  )
  await expect.poll(() => heard).toBe(1)
  again.notify()
  await expect.poll(() => p.count.front).toBe(1)
  again.close()
  p.close()
})

test('a domain can talk to itself', async () => {
  await using m = twoDomains()
  let heard = 0
  const one = m.back.evtchn.bindUnbound({ domid: m.back.domid }, () => heard++)
  const other = m.back.evtchn.bindInterdomain({ domid: m.back.domid, port: one.port }, nothing)
  other.notify()
  await expect.poll(() => heard).toBe(1)
  one.close()
  other.close()
})

test('ports are limited, and reusable', async () => {
  await using m = twoDomains({ ports: 4 })
  const ports = [0, 1, 2].map(() => m.back.evtchn.bindUnbound({ domid: 1 }, nothing))
  expect(new Set(ports.map(({ port }) => port))).toEqual(new Set([1, 2, 3]))
  expect(errnoOf(() => m.back.evtchn.bindUnbound({ domid: 1 }, nothing))).toBe('ENOSPC')
  ports[1]?.close()
  const again = m.back.evtchn.bindUnbound({ domid: 1 }, nothing)
  expect(again.port).toBe(ports[1]?.port)
  for (const port of [...ports, again]) port.close()
})

test('two busy domains do not starve the event loop', async () => {
  await using m = twoDomains()
  let rounds = 0
  const front = m.front.evtchn.bindUnbound({ domid: m.back.domid }, () => {
    front.unmask()
    front.notify()
  })
  const back = m.back.evtchn.bindInterdomain({ domid: m.front.domid, port: front.port }, () => {
    rounds++
    // `back` raises its own next event while the machine still delivers the current ones.
    back.unmask()
    back.notify()
    front.notify()
  })
  for (let tick = 0; tick < 20; tick++) await new Promise((resolve) => setTimeout(resolve, 1))
  expect(rounds).toBeGreaterThan(20)
  front.close()
  back.close()
})

test('spurious events occur, on unmasked ports only', async () => {
  await using m = twoDomains({ seed: 3 })
  const p = await pair(m)
  let spurious = 0
  const idle = m.back.evtchn.bindUnbound({ domid: m.front.domid }, () => spurious++)
  for (let round = 0; round < 2000; round++) {
    p.back.unmask()
    p.front.notify()
    await new Promise((resolve) => setImmediate(resolve))
  }
  // The spurious event masked the port, which was never unmasked, so no second one came.
  expect(spurious).toBe(1)
  idle.close()
  p.close()
})
