/** Checks that real event channels behave as the `EvtchnPort` interface promises. */
import { strictEqual, throws } from 'node:assert'
import { EvtchnError, type Hypervisor } from '@xenkit/hypervisor'
import { setImmediate as turn } from 'node:timers/promises'
import { check } from '../tap.ts'
import { openWire } from './wire.ts'

export async function checkEventChannels(hv: Hypervisor, where: string): Promise<void> {
  await check(`${where}: a notification arrives at the other end, and only there`, async () => {
    using wire = await openWire(hv)
    wire.client.binding.notify()
    await wire.server.reaches(1)
    await settle()
    strictEqual(wire.server.events, 1)
    strictEqual(wire.client.events, 0)
  })

  await check(`${where}: ten notifications before the first is handled are one event`, async () => {
    using wire = await openWire(hv)
    for (let i = 0; i < 10; i++) wire.client.binding.notify()
    await wire.server.reaches(1)
    await settle()
    strictEqual(wire.server.events, 1)
  })

  await check(
    `${where}: a delivered port stays masked until unmask, then reports a missed event`,
    async () => {
      using wire = await openWire(hv)
      wire.client.binding.notify()
      await wire.server.reaches(1)
      wire.client.binding.notify()
      await settle()
      strictEqual(wire.server.events, 1)
      wire.server.binding.unmask()
      await wire.server.reaches(2)
      wire.server.binding.unmask()
      await settle()
      strictEqual(wire.server.events, 2)
    },
  )

  await check(`${where}: 500 round trips lose no event`, async () => {
    using wire = await openWire(hv)
    for (let i = 1; i <= 500; i++) {
      wire.client.binding.notify()
      await wire.server.reaches(i)
      wire.server.binding.unmask()
      wire.server.binding.notify()
      await wire.client.reaches(i)
      wire.client.binding.unmask()
    }
  })

  await check(`${where}: many wires at once keep their events apart`, async () => {
    const wires = await Promise.all(Array.from({ length: 50 }, () => openWire(hv)))
    try {
      const called = wires.filter((_, i) => i % 3 === 0)
      for (const { client } of called) client.binding.notify()
      await Promise.all(called.map(({ server }) => server.reaches(1)))
      await settle()
      strictEqual(
        wires.reduce((sum, { server }) => sum + server.events, 0),
        called.length,
      )
    } finally {
      for (const wire of wires) wire[Symbol.dispose]()
    }
  })

  await check(`${where}: no event after close`, async () => {
    using wire = await openWire(hv)
    wire.client.binding.notify()
    wire.server.binding.close()
    await settle()
    strictEqual(wire.server.events, 0)
  })

  await check(`${where}: binding to a port that is not open is refused`, () => {
    throws(() => hv.evtchn.bindInterdomain({ domid: hv.domid, port: 4000 }, () => {}), EvtchnError)
  })
}

/**
 * Waits for 50 ms, after which an unwanted event would have arrived: in the lab's machine an event
 * takes a few milliseconds.
 */
async function settle(): Promise<void> {
  const until = performance.now() + 50
  while (performance.now() < until) await turn()
}
