/** Races between two sides, each on its own thread. */
import { expect, test } from 'vitest'
import { settled, twoDomains } from './support/machine.ts'
import { startThread } from './support/threads/start-thread.ts'

function spin(microseconds: number): void {
  const end = performance.now() + microseconds / 1000
  while (performance.now() < end);
}

test('no wake-up is lost between two threads', async () => {
  await using m = twoDomains()
  const share = m.front.grants.share({ domid: 0, pages: 1, writable: true })
  const words = new Int32Array(share.bytes.buffer, share.byteOffset, 32)
  let heard: (() => void) | undefined
  const ports = [0, 1].map(() => {
    const port = m.front.evtchn.bindUnbound({ domid: 0 }, () => {
      port.unmask()
      heard?.()
    })
    return port
  })
  await using backend = startThread('backend.ts', m.back, [
    share.grefs[0] ?? 0,
    ...ports.map(({ port }) => port),
  ])
  const events = backend.next()
  for (let count = 1; count <= 2000; count++) {
    for (const [at, port] of ports.entries()) {
      Atomics.store(words, at, count === 2000 ? -1 : count)
      port.notify()
      // Wait 0 to 99 us before the next port's event, so that it finds the backend waking up,
      // checking its ports, or already finished.
      spin(count % 100)
    }
    while (ports.some((_, at) => Atomics.load(words, 16 + at) !== Atomics.load(words, at))) {
      await new Promise<void>((resolve) => (heard = resolve))
    }
  }
  expect(await events).toBeGreaterThanOrEqual(4000)
  await backend.ended()
  for (const open of [share, ...ports]) open.close()
})

test(
  'threads that open and close everything concurrently leave nothing open',
  { timeout: 60_000 },
  async () => {
    await using m = twoDomains()
    const third = m.machine.createDomain()
    await using one = startThread('churn.ts', m.back, [400, 1])
    await using two = startThread('churn.ts', m.front, [400, 2])
    await using same = startThread('churn.ts', m.front, [400, 0])
    for (let round = 0; round < 200; round++) {
      using share = third.grants.share({ domid: 0, pages: 3, writable: true })
      share.bytes.fill(round)
      const refs = [...share.grefs].map((gref) => ({ domid: third.domid, gref }))
      using mapping = m.back.grants.map(refs, { writable: false })
      expect(mapping.bytes[3 * 4096 - 1]).toBe(round)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await Promise.all([one.ended(), two.ended(), same.ended()])
  },
)

test('a peer that notifies without end does not starve the event loop', async () => {
  await using m = twoDomains()
  let heard = 0
  const port = m.back.evtchn.bindUnbound({ domid: 1 }, () => {
    heard++
    port.unmask()
  })
  await using peer = startThread('spam.ts', m.front, [port.port])
  await peer.next()
  const before = heard
  for (let tick = 0; tick < 50; tick++) await new Promise((resolve) => setTimeout(resolve, 1))
  expect(heard - before).toBeGreaterThan(50)
  // Destroying the domain ends the thread by an error. Terminating the thread inside a hypercall
  // would leave the machine locked.
  m.machine.destroyDomain(1)
  await expect(peer.ended()).rejects.toThrow('destroyed')
  port.close()
})

test('a domain in another thread has its own connections to xenstored', async () => {
  await using m = twoDomains()
  await using thread = startThread('xenstore.ts', m.front)
  expect(await thread.next()).toBe('sim-1')
  expect(() => m.machine.assertQuiescent()).toThrow(/xenstore connection of domain 1$/)
  const ended = thread.next()
  m.machine.destroyDomain(1)
  // The text depends on which notices the end first: the thread's domain or its connection.
  expect(await ended).toMatch(
    /^(the domain was closed or destroyed|domain 1 was released from xenstored)$/,
  )
  // With its connection ended, nothing keeps the thread running.
  await thread.ended()
})

test('a connection ends with the thread that opened it', async () => {
  await using m = twoDomains()
  await using thread = startThread('xenstore.ts', m.front)
  await thread.next()
  await thread.terminate()
  await settled()
  expect(() => m.machine.assertQuiescent()).not.toThrow()
})
