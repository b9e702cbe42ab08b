/** Property: any sequence of calls on both ends of a ring behaves like two queues. */
import * as fc from 'fast-check'
import { assert, expect, test } from 'vitest'
import { BackRing, FrontRing, type RingMemory } from '../src/index.ts'
import { anyIndex, readMessage, ringMemory, writeMessage } from './support/ring-memory.ts'

/** The model of a ring: tags in transit, and whether each end has asked for a notification. */
interface Model {
  nextTag: number
  readonly reserved: number[]
  readonly published: number[]
  /** Tags of requests that the backend has consumed and not answered yet. */
  readonly taken: number[]
  readonly answers: number[]
  readonly publishedAnswers: number[]
  free: number
  /**
   * Messages that may still be published before the peer must be notified; undefined if no
   * notification was requested.
   */
  backAsks: number | undefined
  frontAsks: number | undefined
}

interface Real {
  readonly memory: RingMemory
  readonly front: FrontRing
  readonly back: BackRing
}

const newModel = (): Model => ({
  nextTag: 1,
  reserved: [],
  published: [],
  taken: [],
  answers: [],
  publishedAnswers: [],
  free: 32,
  backAsks: 0,
  frontAsks: 0,
})

/**
 * Counts published messages against a request for a notification. The request ends once the message
 * that it names is published.
 */
const spend = (
  asks: number | undefined,
  messages: number,
): { notify: boolean; asks: number | undefined } =>
  asks !== undefined && messages > asks
    ? { notify: true, asks: undefined }
    : { notify: false, asks: asks === undefined ? undefined : asks - messages }

abstract class Command implements fc.Command<Model, Real> {
  check(_model: Readonly<Model>): boolean {
    return true
  }
  abstract run(model: Model, real: Real): void
  toString(): string {
    return `${this.constructor.name}${JSON.stringify(this)}`
  }
}

class Reserve extends Command {
  override check(model: Readonly<Model>): boolean {
    return model.free > 0
  }
  override run(model: Model, { memory, front }: Real): void {
    writeMessage(memory, front.reserveRequest(), model.nextTag)
    model.reserved.push(model.nextTag++)
    model.free--
    assert.strictEqual(front.free, model.free)
  }
}

class ReserveWhenFull extends Command {
  override check(model: Readonly<Model>): boolean {
    return model.free === 0
  }
  override run(_model: Model, { front }: Real): void {
    assert.throws(() => front.reserveRequest(), RangeError)
  }
}

class PublishRequests extends Command {
  override run(model: Model, { front }: Real): void {
    const { notify, asks } = spend(model.backAsks, model.reserved.length)
    assert.strictEqual(front.publish(), notify)
    model.backAsks = asks
    model.published.push(...model.reserved.splice(0))
  }
}

class DrainRequests extends Command {
  readonly max: number
  constructor(max: number) {
    super()
    this.max = max
  }
  override run(model: Model, { back }: Real): void {
    const expected = model.published.splice(0, this.max)
    assert.strictEqual(back.drain(this.max), expected.length)
    assert.deepStrictEqual(
      expected.map((_, i) => readMessage(back, i)),
      expected,
    )
    model.taken.push(...expected)
    assert.strictEqual(back.unanswered, model.taken.length)
  }
}

class BackFinalCheck extends Command {
  override run(model: Model, { back }: Real): void {
    assert.strictEqual(back.finalCheck(), model.published.length > 0)
    if (model.published.length === 0) model.backAsks = 0
  }
}

/** Answers one of the taken requests, not always the oldest. */
class Respond extends Command {
  readonly pick: number
  constructor(pick: number) {
    super()
    this.pick = pick
  }
  override check(model: Readonly<Model>): boolean {
    return model.taken.length > 0
  }
  override run(model: Model, { memory, back }: Real): void {
    const [tag = 0] = model.taken.splice(this.pick % model.taken.length, 1)
    writeMessage(memory, back.reserveResponse(), tag)
    model.answers.push(tag)
    assert.strictEqual(back.unanswered, model.taken.length)
  }
}

class RespondToNothing extends Command {
  override check(model: Readonly<Model>): boolean {
    return model.taken.length === 0
  }
  override run(_model: Model, { back }: Real): void {
    assert.throws(() => back.reserveResponse(), RangeError)
  }
}

class PublishResponses extends Command {
  override run(model: Model, { back }: Real): void {
    const { notify, asks } = spend(model.frontAsks, model.answers.length)
    assert.strictEqual(back.publish(), notify)
    model.frontAsks = asks
    model.publishedAnswers.push(...model.answers.splice(0))
  }
}

class DrainResponses extends Command {
  readonly max: number
  constructor(max: number) {
    super()
    this.max = max
  }
  override run(model: Model, { front }: Real): void {
    const expected = model.publishedAnswers.splice(0, this.max)
    assert.strictEqual(front.drain(this.max), expected.length)
    assert.deepStrictEqual(
      expected.map((_, i) => readMessage(front, i)),
      expected,
    )
    model.free += expected.length
    assert.strictEqual(front.free, model.free)
  }
}

class FrontFinalCheck extends Command {
  override run(model: Model, { front }: Real): void {
    assert.strictEqual(front.finalCheck(), model.publishedAnswers.length > 0)
    if (model.publishedAnswers.length === 0) model.frontAsks = 0
  }
}

/** Replaces a backend that has no request in flight by a new one. */
class Reattach extends Command {
  override check(model: Readonly<Model>): boolean {
    return model.taken.length === 0 && model.answers.length === 0
  }
  override run(_model: Model, real: { memory: RingMemory; back: BackRing }): void {
    real.back = BackRing.attach(real.memory)
  }
}

test('both ends, any sequence of calls', () => {
  const commands = [
    fc.constant(new Reserve()),
    fc.constant(new Reserve()),
    fc.constant(new ReserveWhenFull()),
    fc.constant(new PublishRequests()),
    fc.nat(32).map((max) => new DrainRequests(max)),
    fc.constant(new BackFinalCheck()),
    fc.nat(31).map((pick) => new Respond(pick)),
    fc.nat(31).map((pick) => new Respond(pick)),
    fc.constant(new RespondToNothing()),
    fc.constant(new PublishResponses()),
    fc.nat(32).map((max) => new DrainResponses(max)),
    fc.constant(new FrontFinalCheck()),
    fc.constant(new Reattach()),
  ]
  const property = fc.property(
    anyIndex,
    fc.constantFrom(112, 108),
    fc.commands(commands, { maxCommands: 300, size: 'max' }),
    (index, slotSize, sequence) => {
      const memory = ringMemory({ slotSize, index })
      fc.modelRun(
        () => ({
          model: newModel(),
          real: {
            memory,
            front: FrontRing.attach({ ...memory, index }),
            back: BackRing.attach(memory),
          },
        }),
        sequence,
      )
    },
  )
  expect(() => fc.assert(property, { numRuns: 150 })).not.toThrow()
})
