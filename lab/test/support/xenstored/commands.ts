/**
 * The commands of a random run: requests by a client, in a transaction or not, and creations and
 * destructions of domains.
 */
import assert from 'node:assert/strict'
import { XS } from '@xenkit/wire'
import type * as fc from 'fast-check'
import { type ClientName, CLIENTS, type Guest, type Pair } from './pair.ts'
import { by, type Request, shown } from './requests.ts'

export class Model {
  readonly pair: Pair
  /** Maps a domid to the domains whose target it is. Those domains may access its nodes too. */
  readonly targets = new Map<number, Set<number>>()
  /**
   * Number of compared requests. Requests that the test sends only to wait until an earlier one
   * has taken effect aren't counted.
   */
  requests = 0
  readonly #transactions = new Map<ClientName, number[]>(CLIENTS.map((name) => [name, []]))

  constructor(pair: Pair) {
    this.pair = pair
  }

  /** Ids of the transactions that the client started, whether they are still open or not. */
  transactionsOf(name: ClientName): number[] {
    return this.#transactions.get(name) ?? assert.fail()
  }

  /**
   * Whether the domain may be destroyed in this run. xenstored 4.17 keeps a dangling connection of
   * a domain that was another's target.
   */
  mayGo(domid: number): boolean {
    return ![...this.targets.values()].some((targets) => targets.has(domid))
  }

  /**
   * Compares both sides' events, and forgets what ended with lost connections. Call it after a
   * request has taken effect on both sides.
   */
  async settle(after?: 'one' | 'several'): Promise<void> {
    await this.pair.settle(after)
    for (const name of CLIENTS) {
      if (this.pair.isConnected(name)) continue
      this.transactionsOf(name).length = 0
      this.targets.delete(Number(name))
    }
  }
}

export type Command = fc.AsyncCommand<Model, Pair>

/** Types of requests that take effect at once, even within a transaction. */
const hasEffectAtOnce = new Set<number>([
  XS.TRANSACTION_END,
  XS.INTRODUCE,
  XS.RELEASE,
  XS.SET_TARGET,
  XS.RESET_WATCHES,
])

const domidsIn = (payload: string): number[] =>
  payload.split('|').map((text) => Number.parseInt(text, 10) >>> 0)

export class Ask implements Command {
  readonly client: ClientName
  readonly request: Request
  /**
   * Index of the client's transaction that the request belongs to; undefined for none. -1 sends an
   * unknown transaction id.
   */
  readonly within: number | 'latest' | undefined

  constructor(client: ClientName, request: Request, within?: number | 'latest') {
    this.client = client
    this.request = by(Number.parseInt(client, 10), request)
    this.within = within
  }

  check(model: Model): boolean {
    const { type, payload } = this.request
    const [domid = 0, target] = domidsIn(payload)
    if (type === XS.RELEASE && !model.mayGo(domid)) return false
    if (type === XS.SET_TARGET && domid === target) return false
    return (
      model.pair.isConnected(this.client) &&
      (this.within === undefined || this.#index(model) < model.transactionsOf(this.client).length)
    )
  }

  async run(model: Model, pair: Pair): Promise<void> {
    const { type, payload } = this.request
    const transactions = model.transactionsOf(this.client)
    const index = this.#index(model)
    const txId = this.within === undefined ? 0 : (transactions[index] ?? 999)
    const answer = await pair.ask(this.client, type, payload, txId)
    model.requests++
    const hasWorked = !answer.startsWith('!')
    if (type === XS.TRANSACTION_START && hasWorked) transactions.push(Number.parseInt(answer, 10))
    if (
      type === XS.TRANSACTION_END &&
      (payload === 'T|' || payload === 'F|') &&
      this.within !== undefined &&
      index >= 0
    ) {
      transactions.splice(index, 1)
    }
    if (type === XS.SET_TARGET && hasWorked) {
      const [domid = 0, target = 0] = domidsIn(payload)
      model.targets.set(domid, (model.targets.get(domid) ?? new Set()).add(target))
    }
    if (type === XS.INTRODUCE || type === XS.RELEASE) await pair.followIntroductions()
    // A request that failed or only changed a transaction causes no events. If it did, the next
    // comparison would find them.
    if (answer === 'OK|' && (txId === 0 || hasEffectAtOnce.has(type))) await model.settle()
  }

  #index(model: Model): number {
    return this.within === 'latest'
      ? model.transactionsOf(this.client).length - 1
      : (this.within ?? -1)
  }

  toString = (): string =>
    `${this.client}: ${shown(this.request)}${this.within === undefined ? '' : ` in ${this.within}`}`
}

/** A sequence of commands. Commands that aren't possible are skipped. */
export class Scene implements Command {
  readonly steps: readonly Command[]

  constructor(steps: readonly Command[]) {
    this.steps = steps
  }

  check = (): boolean => true

  async run(model: Model, pair: Pair): Promise<void> {
    for (const step of this.steps) if (step.check(model)) await step.run(model, pair)
  }

  toString = (): string => `[${this.steps.join('; ')}]`
}

/** Several requests by one client, sent without waiting for the answers. */
export class Burst implements Command {
  readonly client: ClientName
  readonly requests: readonly Request[]

  constructor(client: ClientName, requests: readonly Request[]) {
    this.client = client
    this.requests = requests.map((request) => by(Number.parseInt(client, 10), request))
  }

  check = ({ pair }: Model): boolean => pair.isConnected(this.client)

  async run(model: Model, pair: Pair): Promise<void> {
    // Compare events of earlier requests exactly. After the burst they are compared loosely.
    await pair.settle()
    await Promise.all(
      this.requests.map(({ type, payload }) => pair.ask(this.client, type, payload)),
    )
    model.requests += this.requests.length
    await model.settle('several')
  }

  toString = (): string => `${this.client}: ${this.requests.map(shown).join(', ')} at once`
}

/**
 * Creates a domain as a toolstack does, except for the parts that exist already. The domain owns
 * its home.
 */
export class BuildDomain implements Command {
  readonly domid: Guest

  constructor(domid: Guest) {
    this.domid = domid
  }

  check = ({ pair }: Model): boolean => !pair.isConnected(`${this.domid}`)

  async run(model: Model, pair: Pair): Promise<void> {
    if (!pair.exists(this.domid)) await pair.createDomain(this.domid)
    await pair.ask('0', XS.INTRODUCE, `${this.domid}|0|1|`)
    await pair.followIntroductions()
    await pair.ask('0', XS.MKDIR, `/local/domain/${this.domid}|`)
    await pair.ask('0', XS.SET_PERMS, `/local/domain/${this.domid}|n${this.domid}|`)
    await model.settle()
  }

  toString = (): string => `domain ${this.domid} is built`
}

export class DestroyDomain implements Command {
  readonly domid: Guest

  constructor(domid: Guest) {
    this.domid = domid
  }

  check = (model: Model): boolean => model.pair.exists(this.domid) && model.mayGo(this.domid)

  async run(model: Model, pair: Pair): Promise<void> {
    await pair.destroyDomain(this.domid)
    await model.settle()
  }

  toString = (): string => `domain ${this.domid} is destroyed`
}

export class CompareUsage implements Command {
  readonly domid: Guest

  constructor(domid: Guest) {
    this.domid = domid
  }

  check = (): boolean => true

  run = (_model: Model, pair: Pair): Promise<void> => pair.compareUsage(this.domid)

  toString = (): string => `usage of domain ${this.domid}`
}
