/** Any traffic through a switch, whose ports change meanwhile, against a small model. */
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type PortOptions, type PortVlan, openSwitch } from '../../src/index.ts'
import { BROADCAST, ethernet, macOf } from '../support/frames.ts'
import { TestCard } from '../support/test-card.ts'

const PORTS = 4
const AGEING_MS = 100
const ADDRESSES = [0, 1, 2, 3, 4].map(macOf)
const isGroup = (mac: string): boolean => mac === BROADCAST

/** A frame, its tag by parts. */
interface Sent {
  readonly from: string
  readonly to: string
  readonly tag: { readonly vlan: number; readonly priority: number } | undefined
}

type Step =
  | { readonly kind: 'send'; readonly port: number; readonly frames: readonly Sent[] }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'change'; readonly port: number; readonly options: PortOptions }
  | { readonly kind: 'carrier'; readonly port: number; readonly up: boolean }
  | { readonly kind: 'replug'; readonly port: number }

const bytesOf = ({ from, to, tag }: Sent): number[] =>
  ethernet({ from, to, tags: tag ? [(tag.priority << 13) | tag.vlan] : [], payload: [1, 2, 3] })

/** A switch as one would explain it. */
class Model {
  readonly options: PortOptions[]
  readonly up = Array.from({ length: PORTS }, () => true)
  readonly spoofed = Array.from({ length: PORTS }, () => 0)
  now = 0
  /** Where each address was last seen, by VLAN. */
  readonly #seen = new Map<string, { port: number; at: number }>()

  constructor(options: readonly PortOptions[]) {
    this.options = [...options]
  }

  change(port: number, options: PortOptions): void {
    this.options[port] = options
    this.forget(port)
    for (const [key, { port: other }] of this.#seen) {
      const [mac = '', vlan] = key.split('/')
      const isTaken = this.#names(port, mac) && this.#carries(port, Number(vlan))
      if (isTaken && !this.#names(other, mac)) this.#seen.delete(key)
    }
  }

  forget(port: number): void {
    for (const [key, entry] of this.#seen) if (entry.port === port) this.#seen.delete(key)
  }

  /** Returns what each port gets. */
  send(port: number, frame: Sent): Map<number, number[]> {
    const got = new Map<number, number[]>()
    const vlan = this.#ingress(port, frame.tag?.vlan ?? 0)
    if (vlan === undefined || isGroup(frame.from)) return got
    if (!this.#mayUse(port, vlan, frame.from)) {
      this.spoofed[port] = (this.spoofed[port] ?? 0) + 1
      return got
    }
    this.#seen.set(`${frame.from}/${vlan}`, { port, at: this.now })
    const entry = this.#seen.get(`${frame.to}/${vlan}`)
    const isKnown = !isGroup(frame.to) && entry && this.now - entry.at <= AGEING_MS
    for (let to = 0; to < PORTS; to++) {
      if (isKnown ? to !== entry.port : !this.#carries(to, vlan)) continue
      if (to === port || !this.up[to]) continue
      if (this.options[port]?.isolated && this.options[to]?.isolated) continue
      const priority = frame.tag?.priority ?? 0
      const tag = this.#untagged(to) === vlan ? undefined : { vlan, priority }
      got.set(to, bytesOf({ ...frame, tag }))
    }
    return got
  }

  #vlan(port: number): PortVlan {
    return this.options[port]?.vlan ?? { access: 1 }
  }

  #untagged(port: number): number | undefined {
    const vlan = this.#vlan(port)
    return 'access' in vlan ? vlan.access : vlan.native
  }

  #carries(port: number, number: number): boolean {
    const vlan = this.#vlan(port)
    if (this.#untagged(port) === number) return true
    return 'trunk' in vlan && (vlan.trunk === 'all' || vlan.trunk.includes(number))
  }

  #ingress(port: number, tag: number): number | undefined {
    if (tag === 0) return this.#untagged(port)
    if (tag === 4095 || 'access' in this.#vlan(port)) return undefined
    return this.#carries(port, tag) ? tag : undefined
  }

  #names(port: number, mac: string): boolean {
    return this.options[port]?.macs?.includes(mac) ?? false
  }

  #mayUse(port: number, vlan: number, mac: string): boolean {
    if (this.options[port]?.macs) return this.#names(port, mac)
    return !this.options.some((_, i) => this.#names(i, mac) && this.#carries(i, vlan))
  }
}

const vlanNumber = fc.constantFrom(1, 2, 3)
const vlan: fc.Arbitrary<PortVlan> = fc.oneof(
  fc.record({ access: vlanNumber }),
  fc.record(
    { trunk: fc.oneof(fc.subarray([1, 2, 3]), fc.constant('all' as const)), native: vlanNumber },
    { requiredKeys: ['trunk'] },
  ),
)
const options: fc.Arbitrary<PortOptions> = fc.record(
  { vlan, isolated: fc.boolean(), macs: fc.subarray(ADDRESSES, { maxLength: 2 }) },
  { requiredKeys: [] },
)
const address = fc.constantFrom(...ADDRESSES, ...ADDRESSES, BROADCAST)
const sent: fc.Arbitrary<Sent> = fc.record({
  from: address,
  to: address,
  tag: fc.option(fc.record({ vlan: fc.constantFrom(0, 1, 2, 3, 4, 4095), priority: fc.nat(7) }), {
    nil: undefined,
  }),
})
const port = fc.nat(PORTS - 1)
const sending = fc.record({
  kind: fc.constant('send' as const),
  port,
  frames: fc.array(sent, { minLength: 1, maxLength: 4 }),
})
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: sending },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(120) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('change' as const), port, options }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('carrier' as const), port, up: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('replug' as const), port }) },
)

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

test('a switch does what its model does', { timeout: 30_000 }, async () => {
  const seen = { delivered: 0, single: 0, retagged: 0, spoofed: 0 }
  await fc.assert(
    fc.asyncProperty(
      fc.array(options, { minLength: PORTS, maxLength: PORTS }),
      fc.array(step, { maxLength: 60 }),
      async (initial, steps) => {
        const model = new Model(initial)
        const sw = openSwitch({ ageingMs: AGEING_MS })
        const ports = initial.map((it) => sw.port(it))
        const cards = await Promise.all(ports.map((it) => new TestCard().plugInto(it)))
        for (const it of steps) {
          if (it.kind === 'wait') {
            vi.advanceTimersByTime(it.ms)
            model.now += it.ms
            continue
          }
          const card = cards[it.port]
          if (it.kind === 'change') {
            ports[it.port]?.change(it.options)
            model.change(it.port, it.options)
          } else if (it.kind === 'carrier') {
            card?.link.carrier?.(it.up)
            model.up[it.port] = it.up
            if (!it.up) model.forget(it.port)
          } else if (it.kind === 'replug') {
            await card?.link.close()
            const at = ports[it.port]
            if (at) cards[it.port] = await new TestCard().plugInto(at)
            model.up[it.port] = true
            model.forget(it.port)
          } else {
            card?.transmit(...it.frames.map(bytesOf))
            const expected = it.frames.map((frame) => model.send(it.port, frame))
            for (const [i, other] of cards.entries()) {
              const got = other.take()
              expect(got).toEqual(expected.flatMap((to) => (to.has(i) ? [to.get(i)] : [])))
            }
            for (const [i, to] of expected.entries()) {
              const frame = it.frames[i]
              if (to.size > 0) seen.delivered++
              if (to.size === 1) seen.single++
              const length = frame && bytesOf(frame).length
              if ([...to.values()].some((bytes) => bytes.length !== length)) seen.retagged++
            }
          }
          expect(ports.map(({ stats }) => stats.spoofed)).toEqual(model.spoofed)
        }
        seen.spoofed += model.spoofed.reduce((a, b) => a + b)
        await sw.close()
      },
    ),
    { numRuns: 1000 },
  )
  // The cases that matter came up.
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(60)
})
