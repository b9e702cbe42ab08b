/** What a run is made of: requests by one client or another, in a transaction or not, and domains that come and go. */
import assert from 'node:assert/strict'
import { XS, xsTypeName } from '@xenkit/wire'
import type * as fc from 'fast-check'
import { type ClientName, CLIENTS, type Pair } from './pair.ts'
import type { Request } from './requests.ts'

/** What a command has to know to see whether it can run. */
export interface Model {
  readonly pair: Pair
  /** Ids of transactions that were started, of each client. */
  readonly transactions: Map<ClientName, number[]>
}

export const newModel = (pair: Pair): Model => ({ pair, transactions: new Map(CLIENTS.map((name) => [name, []])) })

const transactionsOf = ({ transactions }: Model, name: ClientName): number[] => transactions.get(name) ?? assert.fail()

type Command = fc.AsyncCommand<Model, Pair>

async function finish(model: Model, pair: Pair, type?: number): Promise<void> {
  if (type === XS.INTRODUCE || type === XS.RELEASE) await pair.followIntroductions()
  await pair.settle()
  for (const [name, ids] of model.transactions) if (!pair.isConnected(name)) ids.length = 0
}

export class Ask implements Command {
  readonly client: ClientName
  readonly request: Request
  /** Which of the client's transactions it is part of; -1 is one that it hasn't. */
  readonly within: number | undefined

  constructor(client: ClientName, request: Request, within: number | undefined) {
    this.client = client
    this.request = request
    this.within = within
  }

  check(model: Readonly<Model>): boolean {
    return model.pair.isConnected(this.client) && (this.within === undefined || this.within < transactionsOf(model, this.client).length)
  }

  async run(model: Model, pair: Pair): Promise<void> {
    const txId = this.within === undefined ? 0 : (transactionsOf(model, this.client)[this.within] ?? 999)
    await pair.ask(this.client, this.request.type, this.request.payload, txId)
    await finish(model, pair, this.request.type)
  }

  toString = (): string => `${this.client}: ${xsTypeName(this.request.type)} ${JSON.stringify(this.request.payload)}${this.within === undefined ? '' : ` in ${this.within}`}`
}

export class Begin implements Command {
  readonly client: ClientName

  constructor(client: ClientName) {
    this.client = client
  }

  check = ({ pair }: Readonly<Model>): boolean => pair.isConnected(this.client)

  async run(model: Model, pair: Pair): Promise<void> {
    const answer = await pair.ask(this.client, XS.TRANSACTION_START, '|')
    if (!answer.startsWith('!')) transactionsOf(model, this.client).push(Number.parseInt(answer, 10))
    await finish(model, pair)
  }

  toString = (): string => `${this.client}: begin`
}

export class End implements Command {
  readonly client: ClientName
  readonly which: number
  readonly verdict: string

  constructor(client: ClientName, which: number, verdict: string) {
    this.client = client
    this.which = which
    this.verdict = verdict
  }

  check = (model: Readonly<Model>): boolean => this.which < transactionsOf(model, this.client).length

  async run(model: Model, pair: Pair): Promise<void> {
    const ids = transactionsOf(model, this.client)
    await pair.ask(this.client, XS.TRANSACTION_END, this.verdict, ids[this.which])
    if (this.verdict === 'T|' || this.verdict === 'F|') ids.splice(this.which, 1)
    await finish(model, pair)
  }

  toString = (): string => `${this.client}: end ${this.which} ${JSON.stringify(this.verdict)}`
}

export class CreateDomain implements Command {
  readonly domid: number

  constructor(domid: number) {
    this.domid = domid
  }

  check = ({ pair }: Readonly<Model>): boolean => !pair.exists(this.domid)

  run = (_model: Model, pair: Pair): Promise<void> => pair.createDomain(this.domid)

  toString = (): string => `domain ${this.domid} is created`
}

export class DestroyDomain implements Command {
  readonly domid: number

  constructor(domid: number) {
    this.domid = domid
  }

  check = ({ pair }: Readonly<Model>): boolean => pair.exists(this.domid)

  async run(model: Model, pair: Pair): Promise<void> {
    await pair.destroyDomain(this.domid)
    await finish(model, pair)
  }

  toString = (): string => `domain ${this.domid} is destroyed`
}
