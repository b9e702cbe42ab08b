/** Several servers on one event channel. */
import { type ServedRing, ServedRings } from '@xenkit/backend'
import { EventChannel } from '@xenkit/evtchn'
import { createMachine } from '@xenkit/sim'
import { expect, test } from 'vitest'
import { until } from './support/until.ts'

test('each event gives a turn to every server of its channel, in their order', async () => {
  await using machine = createMachine()
  const dom0 = machine.createDomain()
  const guest = machine.createDomain()
  const turns: string[] = []
  const errors: unknown[] = []
  const server = (name: string): ServedRing => ({
    turn: () => void turns.push(name),
    inFlight: 0,
    settle: async () => void turns.push(`${name} settles`),
    abandon() {},
  })
  const { signal } = new AbortController()
  const served = new ServedRings(dom0, {
    domid: guest.domid,
    abandon: signal,
    failed: (error) => void errors.push(error),
  })
  using front = EventChannel.bindUnbound(guest.evtchn, { domid: dom0.domid })
  const bind = (port: number): EventChannel =>
    served.rings.own(EventChannel.bindInterdomain(dom0.evtchn, { domid: guest.domid, port }))
  const channel = bind(front.port)
  using otherFront = EventChannel.bindUnbound(guest.evtchn, { domid: dom0.domid })
  served.add(server('sending'), channel)
  served.add(server('alone'), bind(otherFront.port))
  served.add(server('receiving'), channel)
  // Binding a port sends its first event.
  await until(() => turns.length === 3)
  const after = async (notify: () => void, count: number): Promise<string[]> => {
    turns.length = 0
    notify()
    await until(() => turns.length >= count)
    return [...turns]
  }
  expect(await after(() => front.notify(), 2)).toEqual(['sending', 'receiving'])
  expect(await after(() => otherFront.notify(), 1)).toEqual(['alone'])
  turns.length = 0
  await served.close({ frontend: 'gone' })
  expect(turns).toEqual(['sending settles', 'alone settles', 'receiving settles'])
  expect(errors).toEqual([])
})
