import { EvtchnError } from '@xenkit/hypervisor'
import { type Arena, type Evtchn, loadNative } from '@xenkit/native'
import { afterEach, expect, onTestFinished, test, vi } from 'vitest'
import { XenArena } from '../src/arena.ts'
import { XenEvtchn } from '../src/evtchn.ts'

/** Names of the addon's calls that fail with EIO. */
const failing = new Set<string>()
afterEach(() => failing.clear())

function answer<T>(call: string, value: T): T {
  if (failing.has(call)) throw Object.assign(new Error(`${call}: EIO`), { code: 'EIO' })
  return value
}

/** A simulated device that numbers ports from 1 and records the ports that were unmasked. */
function device() {
  const real = loadNative()
  const arena = new XenArena(real, 4)
  const unmasked: number[] = []
  const virqs: number[] = []
  let tell = (_count: number): void => {}
  let ports = 0
  class FakeEvtchn implements Evtchn {
    readonly #toUnmask: Uint32Array

    constructor(_arena: Arena, _path: string, table: number, onPending: (count: number) => void) {
      this.#toUnmask = new Uint32Array(arena.buffer, table + 4096, 1024)
      tell = onPending
    }

    bindInterdomain = (): number => answer('bind', ++ports)
    bindUnbound = (): number => answer('bind', ++ports)
    bindVirq = (virq: number): number => {
      virqs.push(virq)
      return answer('bind', ++ports)
    }
    createNotify = () => (): void => answer('notify', undefined)
    createUnmask =
      () =>
      (count: number): void =>
        void unmasked.push(...this.#toUnmask.subarray(0, answer('unmask', count)))

    unbind = (): void => answer('unbind', undefined)
    close(): void {}
  }
  const evtchn = new XenEvtchn({ ...real, Evtchn: FakeEvtchn }, arena)
  return { evtchn, unmasked, virqs, tell: (count: number) => tell(count) }
}

test('after an overflow every port is treated as pending; the 1st, 2nd and 4th are warned about', () => {
  const warnings = vi.spyOn(process, 'emitWarning').mockReturnValue()
  onTestFinished(() => warnings.mockRestore())
  const { evtchn, unmasked, tell } = device()
  const heard: number[] = []
  // More than a page of ports: unmasks are written a page at a time.
  const bindings = Array.from({ length: 1500 }, () => {
    const binding = evtchn.bindInterdomain({ domid: 1, port: 1 }, () => {
      heard.push(binding.port)
      binding.unmask()
    })
    return binding
  })
  const ports = bindings.map(({ port }) => port)
  tell(0)
  expect(heard).toEqual(ports)
  expect(unmasked).toEqual(ports)
  bindings[7]?.close()
  heard.length = 0
  for (let overflows = 1; overflows < 5; overflows++) tell(0)
  expect(heard.filter((port) => port === 9)).toHaveLength(4)
  expect(heard).not.toContain(8)
  const told = (overflows: number, open: number): string =>
    `the queue of "/dev/xen/evtchn" overflowed (${overflows} so far): ` +
    `all ${open} ports are treated as pending, no event is lost`
  expect(warnings.mock.calls.map(([text]) => text)).toEqual([
    told(1, 1500),
    told(2, 1499),
    told(4, 1499),
  ])
})

test.each(['bind', 'notify', 'unmask', 'unbind'])('a refused %s is an EvtchnError', (call) => {
  const { evtchn } = device()
  const binding = evtchn.bindInterdomain({ domid: 3, port: 9 }, () => {})
  const calls: Readonly<Record<string, () => unknown>> = {
    bind: () => evtchn.bindUnbound({ domid: 3 }, () => {}),
    notify: () => binding.notify(),
    unmask: () => binding.unmask(),
    unbind: () => binding.close(),
  }
  failing.add(call)
  expect(calls[call]).toThrow(EvtchnError)
})

test('an unbind that fails names the port, and nothing is delivered afterwards', () => {
  const { evtchn, tell } = device()
  const heard = vi.fn<() => void>()
  const binding = evtchn.bindInterdomain({ domid: 3, port: 9 }, heard)
  failing.add('unbind')
  const message = `cannot unbind port ${binding.port}: unbind: EIO`
  const details = { errno: 'EIO', port: binding.port }
  expect(() => binding.close()).toThrow(expect.objectContaining({ message, details }))
  expect(() => binding.close()).not.toThrow()
  tell(0)
  expect(heard).not.toHaveBeenCalled()
})

test('a virtual interrupt is bound by its number, and a refusal names it', () => {
  const { evtchn, virqs, tell } = device()
  const heard = vi.fn<() => void>()
  const binding = evtchn.bindVirq({ virq: 3 }, heard)
  expect(virqs).toEqual([3])
  tell(0)
  expect(heard).toHaveBeenCalledOnce()
  binding.close()
  failing.add('bind')
  const message = 'cannot bind to virtual interrupt 7: bind: EIO'
  expect(() => evtchn.bindVirq({ virq: 7 }, heard)).toThrow(
    expect.objectContaining({ message, details: { errno: 'EIO', virq: 7 } }),
  )
  expect(() => evtchn.bindVirq({ virq: -1 }, heard)).toThrow(RangeError)
  expect(virqs).toEqual([3, 7])
})
