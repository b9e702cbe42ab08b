import { EvtchnError, HypervisorClosedError } from '@xenkit/hypervisor'
import { NR_VIRQS, VIRQ } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { createMachine } from '../src/index.ts'
import { settled, twoDomains } from './support/machine.ts'

const nothing = (): void => {}

function errorOf(call: () => unknown): unknown {
  try {
    call()
    return undefined
  } catch (error) {
    if (error instanceof EvtchnError) return [error.details['errno'], error.message]
    throw error
  }
}

test('a virtual interrupt that is raised arrives, masked until unmask, and coalesces', async () => {
  await using m = twoDomains({ seed: 2 })
  let heard = 0
  const binding = m.back.evtchn.bindVirq({ virq: VIRQ.CONSOLE }, () => heard++)
  const raise = () => m.machine.raiseVirq({ domid: 0, virq: VIRQ.CONSOLE })
  await settled()
  expect(heard).toBe(0)
  raise()
  raise()
  expect(heard).toBe(0)
  await expect.poll(() => heard).toBe(1)
  raise()
  raise()
  await settled()
  expect(heard).toBe(1)
  binding.unmask()
  await expect.poll(() => heard).toBe(2)
  binding.close()
})

test('one that is raised before it is bound, or for another domain, is lost', async () => {
  await using m = twoDomains({ seed: 2 })
  const heard: string[] = []
  m.machine.raiseVirq({ domid: 0, virq: VIRQ.DEBUG })
  const bindings = [
    m.back.evtchn.bindVirq({ virq: VIRQ.DEBUG }, () => heard.push('debug of 0')),
    m.back.evtchn.bindVirq({ virq: VIRQ.CONSOLE }, () => heard.push('console of 0')),
    m.front.evtchn.bindVirq({ virq: VIRQ.DEBUG }, () => heard.push('debug of 1')),
  ]
  m.machine.raiseVirq({ domid: m.front.domid, virq: VIRQ.CONSOLE })
  await settled()
  expect(heard).toEqual([])
  m.machine.raiseVirq({ domid: m.front.domid, virq: VIRQ.DEBUG })
  await expect.poll(() => heard).toEqual(['debug of 1'])
  for (const binding of bindings) binding.close()
})

test('a bind that is refused has the errno that Xen gives', async () => {
  await using m = twoDomains()
  const bind = (virq: number) => m.back.evtchn.bindVirq({ virq }, nothing)
  const binding = bind(VIRQ.CONSOLE)
  expect(errorOf(() => bind(VIRQ.CONSOLE))).toEqual([
    'EEXIST',
    `cannot bind to virtual interrupt 2: EEXIST, port ${binding.port} is bound to it`,
  ])
  expect(errorOf(() => bind(NR_VIRQS))).toEqual([
    'EINVAL',
    'cannot bind to virtual interrupt 24: EINVAL, the last one is 23',
  ])
  expect(errorOf(() => m.front.evtchn.bindVirq({ virq: VIRQ.DOM_EXC }, nothing))).toEqual([
    'EBUSY',
    'cannot bind to virtual interrupt 3: EBUSY, domain 0 handles it',
  ])
  binding.close()
  bind(VIRQ.CONSOLE).close()
  expect(() => bind(-1)).toThrow(RangeError)
})

test('a notification of its port reaches no port of the domain', async () => {
  // Three bound ports, so that the number of the interrupt CONSOLE is also the number of a port.
  await using m = twoDomains({ seed: 2, ports: 4 })
  let heard = 0
  const bindings = [VIRQ.CONSOLE, VIRQ.DEBUG, VIRQ.TIMER].map((virq) =>
    m.back.evtchn.bindVirq({ virq }, () => heard++),
  )
  bindings[0]?.notify()
  await settled()
  expect(heard).toBe(0)
  for (const binding of bindings) binding.close()
})

test('domain 0 hears of the end of another domain', async () => {
  await using m = twoDomains({ seed: 2 })
  let heard = 0
  const binding = m.back.evtchn.bindVirq({ virq: VIRQ.DOM_EXC }, () => heard++)
  m.machine.destroyDomain(m.front.domid)
  await expect.poll(() => heard).toBe(1)
  expect(() => m.machine.raiseVirq({ domid: m.front.domid, virq: VIRQ.DEBUG })).toThrow(
    HypervisorClosedError,
  )
  binding.close()
})

test('a port that was left bound is a leak', async () => {
  const machine = createMachine()
  const { port } = machine.createDomain().evtchn.bindVirq({ virq: VIRQ.CONSOLE }, nothing)
  expect(() => machine.assertQuiescent()).toThrow(
    `port ${port} of domain 0 is open: bound to virtual interrupt 2`,
  )
  await machine.close()
})

test('there are no others to raise', async () => {
  await using m = twoDomains()
  expect(() => m.machine.raiseVirq({ domid: 0, virq: NR_VIRQS })).toThrow(RangeError)
})
