/**
 * Compares event channels with a model of Xen's, for any order of calls. Events are delivered
 * between the calls or later.
 */
import type { EvtchnBinding } from '@xenkit/hypervisor'
import * as fc from 'fast-check'
import { VIRQ } from '@xenkit/wire'
import { assert } from 'vitest'
import type { SimDomain, SimMachine } from '../../src/index.ts'

interface Port {
  readonly domid: number
  readonly binding: EvtchnBinding
  delivered: number
}
export interface Real {
  readonly machine: SimMachine
  readonly domains: readonly SimDomain[]
  readonly ports: Port[]
}
interface ModelPort {
  readonly domid: number
  peer: number | undefined
  /** The domain that may bind to this port while the port has no peer. */
  awaited: number | undefined
  /** Number of the virtual interrupt that the port is bound to, if any. */
  readonly virq?: number
  pending: boolean
  masked: boolean
  closed: boolean
}
interface Model {
  readonly ports: ModelPort[]
}
type Command = fc.AsyncCommand<Model, Real>

export const DOMAINS = 3
const pick = <T>(items: readonly T[], at: number): T | undefined =>
  items[at % Math.max(1, items.length)]

function add(real: Real, domid: number, bind: (onEvent: () => void) => EvtchnBinding): void {
  const port: Port = { domid, delivered: 0, binding: bind(() => port.delivered++) }
  real.ports.push(port)
}

class BindUnbound implements Command {
  constructor(
    readonly domid: number,
    readonly remote: number,
  ) {}
  check = () => true
  async run(model: Model, real: Real) {
    add(real, this.domid, (onEvent) =>
      expectDomain(real, this.domid).evtchn.bindUnbound({ domid: this.remote }, onEvent),
    )
    model.ports.push({
      domid: this.domid,
      peer: undefined,
      awaited: this.remote,
      pending: false,
      masked: false,
      closed: false,
    })
  }
  toString = () => `bindUnbound(${this.domid} for ${this.remote})`
}

class BindInterdomain implements Command {
  constructor(
    readonly domid: number,
    readonly at: number,
  ) {}
  check = (model: Model) => model.ports.length > 0
  async run(model: Model, real: Real) {
    const index = this.at % model.ports.length
    const target = pick(model.ports, this.at)
    const remote = pick(real.ports, this.at)
    if (!target || !remote) return
    const bind = () =>
      add(real, this.domid, (onEvent) =>
        expectDomain(real, this.domid).evtchn.bindInterdomain(
          { domid: target.domid, port: remote.binding.port },
          onEvent,
        ),
      )
    if (
      target.closed &&
      model.ports.some(
        (other, otherIndex) =>
          !other.closed &&
          other.domid === target.domid &&
          real.ports[otherIndex]?.binding.port === remote.binding.port,
      )
    ) {
      return
    }
    if (target.closed || target.peer !== undefined || target.awaited !== this.domid) {
      assert.throws(bind, 'EINVAL')
      return
    }
    bind()
    target.peer = model.ports.length
    model.ports.push({
      domid: this.domid,
      peer: index,
      awaited: target.domid,
      pending: true,
      masked: false,
      closed: false,
    })
  }
  toString = () => `bindInterdomain(${this.domid} to #${this.at})`
}

/** Finds the port that a domain has bound to a virtual interrupt. */
const boundToVirq = (model: Model, domid: number, virq: number): ModelPort | undefined =>
  model.ports.find((port) => !port.closed && port.domid === domid && port.virq === virq)

class BindVirq implements Command {
  constructor(
    readonly domid: number,
    readonly virq: number,
  ) {}
  check = () => true
  async run(model: Model, real: Real) {
    const bind = () =>
      add(real, this.domid, (onEvent) =>
        expectDomain(real, this.domid).evtchn.bindVirq({ virq: this.virq }, onEvent),
      )
    if (this.virq === VIRQ.CONSOLE && this.domid !== 0) return void assert.throws(bind, 'EBUSY')
    if (boundToVirq(model, this.domid, this.virq)) return void assert.throws(bind, 'EEXIST')
    bind()
    model.ports.push({
      domid: this.domid,
      peer: undefined,
      awaited: undefined,
      virq: this.virq,
      pending: false,
      masked: false,
      closed: false,
    })
  }
  toString = () => `bindVirq(${this.domid}, ${this.virq})`
}

class RaiseVirq implements Command {
  constructor(
    readonly domid: number,
    readonly virq: number,
  ) {}
  check = () => true
  async run(model: Model, real: Real) {
    real.machine.raiseVirq(this)
    const port = boundToVirq(model, this.domid, this.virq)
    if (port) port.pending = true
  }
  toString = () => `raiseVirq(${this.domid}, ${this.virq})`
}

class Notify implements Command {
  constructor(readonly at: number) {}
  check = (model: Model) => model.ports.length > 0
  async run(model: Model, real: Real) {
    const port = pick(model.ports, this.at)
    const notify = () => pick(real.ports, this.at)?.binding.notify()
    if (port?.closed) assert.throws(notify, 'ENOTCONN')
    else notify()
    if (!port || port.closed || port.peer === undefined) return
    const peer = model.ports[port.peer]
    if (peer) peer.pending = true
  }
  toString = () => `notify(#${this.at})`
}

class Unmask implements Command {
  constructor(readonly at: number) {}
  check = (model: Model) => model.ports.length > 0
  async run(model: Model, real: Real) {
    pick(real.ports, this.at)?.binding.unmask()
    const port = pick(model.ports, this.at)
    if (port) port.masked = false
  }
  toString = () => `unmask(#${this.at})`
}

class Close implements Command {
  constructor(readonly at: number) {}
  check = (model: Model) => model.ports.length > 0
  async run(model: Model, real: Real) {
    pick(real.ports, this.at)?.binding.close()
    const port = pick(model.ports, this.at)
    if (!port || port.closed) return
    port.closed = true
    const peer = port.peer === undefined ? undefined : model.ports[port.peer]
    if (peer) peer.peer = undefined
  }
  toString = () => `close(#${this.at})`
}

/**
 * Waits until pending events are delivered, and compares: a pending event on an unmasked port
 * arrives once. A spurious event arrives at most once before the port is unmasked.
 */
class Settle implements Command {
  check = () => true
  async run(model: Model, real: Real) {
    const before = real.ports.map(({ delivered }) => delivered)
    const news = (index: number) => (real.ports[index]?.delivered ?? 0) - (before[index] ?? 0)
    const due = model.ports.flatMap((port, index) =>
      port.pending && !port.masked && !port.closed ? [index] : [],
    )
    const deadline = performance.now() + 1000
    do await new Promise((resolve) => setTimeout(resolve, 1))
    while (due.some((index) => news(index) === 0) && performance.now() < deadline)
    for (const [index, port] of model.ports.entries()) {
      if (due.includes(index)) assert.equal(news(index), 1)
      else assert.isAtMost(news(index), port.masked || port.closed ? 0 : 1)
      if (news(index) === 0) continue
      port.pending = false
      port.masked = true
    }
  }
  toString = () => 'settle'
}

function expectDomain(real: Real, domid: number): SimDomain {
  const domain = real.domains[domid]
  if (!domain) throw new RangeError(`no domain ${domid}`)
  return domain
}

/** Generates sequences of calls on event channels. */
export function eventCommands() {
  const domid = fc.nat({ max: DOMAINS - 1 })
  const at = fc.nat({ max: 30 })
  const virq = fc.constantFrom(VIRQ.DEBUG, VIRQ.CONSOLE)
  return fc.commands(
    [
      fc.tuple(domid, domid).map(([one, other]) => new BindUnbound(one, other)),
      fc.tuple(domid, at).map(([one, port]) => new BindInterdomain(one, port)),
      fc.tuple(domid, at).map(([one, port]) => new BindInterdomain(one, port)),
      fc.tuple(domid, virq).map(([one, number]) => new BindVirq(one, number)),
      fc.tuple(domid, virq).map(([one, number]) => new RaiseVirq(one, number)),
      at.map((port) => new Notify(port)),
      at.map((port) => new Notify(port)),
      at.map((port) => new Unmask(port)),
      at.map((port) => new Close(port)),
      fc.constant(new Settle()),
      fc.constant(new Settle()),
    ],
    { maxCommands: 60, size: 'max' },
  )
}
