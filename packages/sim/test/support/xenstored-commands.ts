/**
 * Random xenstore requests of several domains, in and out of transactions. Each reply is compared
 * with the model's.
 */
import assert from 'node:assert/strict'
import { XS } from '@xenkit/wire'
import type * as fc from 'fast-check'
import { RawXenstore } from './raw-xenstore.ts'
import { type Applied, heard, type Operation, XenstoreModel } from './xenstored-model.ts'

export const DOMIDS = [0, 5, 6]

export interface Model {
  readonly store: XenstoreModel
  /**
   * Number of changes to the store. A transaction during which it hasn't grown must not conflict.
   */
  changes: number
  readonly transactions: {
    readonly domid: number
    readonly asked: { operation: Operation; answer: string }[]
    readonly since: number
  }[]
  readonly watches: Map<number, Set<string>>
}

export interface Real {
  readonly clients: Map<number, RawXenstore>
  readonly transactions: number[]
}

const clientOf = (real: Real, domid: number): RawXenstore =>
  real.clients.get(domid) ?? assert.fail(`no client of domain ${domid}`)

function request(client: RawXenstore, operation: Operation, txId?: number): Promise<string> {
  const { kind, path } = operation
  if (operation.kind === 'write') return client.write(path, operation.value, txId)
  if (operation.kind === 'setPerms') {
    return client.setPerms(
      path,
      [[operation.owner, operation.others] as const, ...operation.acl]
        .map(([id, letter]) => `${letter}${id}`)
        .join('|'),
      txId,
    )
  }
  return client.ask(
    {
      read: XS.READ,
      list: XS.DIRECTORY,
      mkdir: XS.MKDIR,
      rm: XS.RM,
      getPerms: XS.GET_PERMS,
      write: 0,
      setPerms: 0,
    }[kind],
    `${path}|`,
    txId,
  )
}

async function expectEvents(model: Model, real: Real, applied: readonly Applied[]): Promise<void> {
  for (const domid of DOMIDS) {
    const expected = [...(model.watches.get(domid) ?? [])].flatMap((watched) =>
      applied.flatMap((one) => heard(watched, domid, one)).map((path) => `${path} ${watched}`),
    )
    assert.deepEqual(new Set(await clientOf(real, domid).events()), new Set(expected))
  }
}

export class Direct implements fc.AsyncCommand<Model, Real> {
  readonly domid: number
  readonly operation: Operation
  constructor(domid: number, operation: Operation) {
    this.domid = domid
    this.operation = operation
  }
  check = (): boolean => true
  async run(model: Model, real: Real): Promise<void> {
    const applied = model.store.apply(this.domid, this.operation)
    model.changes += applied.changes.length
    assert.equal(await request(clientOf(real, this.domid), this.operation), applied.answer)
    await expectEvents(model, real, [applied])
  }
  toString = (): string => `domain ${this.domid}: ${JSON.stringify(this.operation)}`
}

export class Begin implements fc.AsyncCommand<Model, Real> {
  readonly domid: number
  constructor(domid: number) {
    this.domid = domid
  }
  check = (model: Readonly<Model>): boolean => model.transactions.length < 3
  async run(model: Model, real: Real): Promise<void> {
    real.transactions.push(await clientOf(real, this.domid).begin())
    model.transactions.push({ domid: this.domid, asked: [], since: model.changes })
  }
  toString = (): string => `domain ${this.domid}: begin`
}

export class Within implements fc.AsyncCommand<Model, Real> {
  readonly which: number
  readonly operation: Operation
  constructor(which: number, operation: Operation) {
    this.which = which
    this.operation = operation
  }
  check = (model: Readonly<Model>): boolean => this.which < model.transactions.length
  async run(model: Model, real: Real): Promise<void> {
    const transaction = model.transactions[this.which] ?? assert.fail()
    const answer = await request(
      clientOf(real, transaction.domid),
      this.operation,
      real.transactions[this.which],
    )
    transaction.asked.push({ operation: this.operation, answer })
    await expectEvents(model, real, [])
  }
  toString = (): string => `transaction ${this.which}: ${JSON.stringify(this.operation)}`
}

export class End implements fc.AsyncCommand<Model, Real> {
  readonly which: number
  readonly verdict: 'T' | 'F'
  constructor(which: number, verdict: 'T' | 'F') {
    this.which = which
    this.verdict = verdict
  }
  check = (model: Readonly<Model>): boolean => this.which < model.transactions.length
  async run(model: Model, real: Real): Promise<void> {
    const [transaction] = model.transactions.splice(this.which, 1)
    const [txId] = real.transactions.splice(this.which, 1)
    if (!transaction || txId === undefined) return
    const answer = await clientOf(real, transaction.domid).end(txId, this.verdict)
    const unchanged = model.changes === transaction.since
    assert.equal(
      answer,
      this.verdict === 'F' || unchanged || answer !== 'EAGAIN' ? 'OK|' : 'EAGAIN',
    )
    if (this.verdict === 'F' || answer === 'EAGAIN') {
      await expectEvents(model, real, [])
      return
    }
    for (const { operation, answer: given } of transaction.asked) {
      const applied = model.store.apply(transaction.domid, operation)
      model.changes += applied.changes.length
      assert.equal(
        given,
        applied.answer,
        `${JSON.stringify(operation)} within a transaction that was committed`,
      )
    }
    // The model doesn't know the events of requests within a transaction, so they aren't compared.
    // Only the reply to its end is.
    for (const domid of DOMIDS) await clientOf(real, domid).events()
  }
  toString = (): string => `transaction ${this.which}: end ${this.verdict}`
}

export class SetWatch implements fc.AsyncCommand<Model, Real> {
  readonly domid: number
  readonly path: string
  constructor(domid: number, path: string) {
    this.domid = domid
    this.path = path
  }
  check = (): boolean => true
  async run(model: Model, real: Real): Promise<void> {
    const watches = model.watches.get(this.domid) ?? new Set()
    const client = clientOf(real, this.domid)
    assert.equal(
      await client.watch(this.path, this.path),
      watches.has(this.path) ? 'EEXIST' : 'OK|',
    )
    assert.deepEqual(
      await client.events(),
      watches.has(this.path) ? [] : [`${this.path} ${this.path}`],
    )
    model.watches.set(this.domid, watches.add(this.path))
  }
  toString = (): string => `domain ${this.domid}: watch ${this.path}`
}
