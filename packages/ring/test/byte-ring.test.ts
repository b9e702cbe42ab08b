/**
 * Property: both ends of a ring of bytes behave like one queue. Whatever the other side writes,
 * each end either goes on or throws an error.
 */
import * as fc from 'fast-check'
import { RingProtocolError } from '@xenkit/hypervisor'
import { assert, describe, expect, test } from 'vitest'
import { ByteRingConsumer, ByteRingProducer, type ByteRingMemory } from '../src/index.ts'
import { intercepted, type Interceptor } from './support/intercept.ts'
import { anyIndex } from './support/ring-memory.ts'

const DATA = 4096
const PROD = 16
const CONS = 20

/**
 * Memory of an empty ring with both indices at `index`: a page before the data, the data's page,
 * and a page for the indices.
 */
function byteRingMemory({ size = 64, index = 0 } = {}): ByteRingMemory {
  const buffer = new SharedArrayBuffer(3 * 4096)
  const memory = {
    name: 'in',
    data: new Uint8Array(buffer, DATA, size),
    page: new Uint8Array(buffer, 2 * 4096, 64),
    prod: PROD,
    cons: CONS,
  }
  setIndices(memory, { prod: index, cons: index })
  return memory
}

function setIndices(
  { page }: ByteRingMemory,
  { prod, cons }: { prod?: number; cons?: number },
): void {
  const view = new DataView(page.buffer, page.byteOffset)
  if (prod !== undefined) view.setUint32(PROD, prod, true)
  if (cons !== undefined) view.setUint32(CONS, cons, true)
}

const indicesOf = ({ page }: ByteRingMemory): { prod: number; cons: number } => {
  const view = new DataView(page.buffer, page.byteOffset)
  return { prod: view.getUint32(PROD, true), cons: view.getUint32(CONS, true) }
}

/** Bytes `from..to - 1` of a stream in which any bytes in a row differ from those elsewhere. */
const streamed = (from: number, to: number): Uint8Array =>
  Uint8Array.from({ length: to - from }, (_, i) => ((from + i) * 167 + ((from + i) >>> 8)) & 0xff)

const anySize = fc.constantFrom(1, 2, 16, 64, 1024)
const sameBytes = (got: Uint8Array, wanted: Uint8Array): boolean =>
  got.length === wanted.length && got.every((byte, i) => byte === wanted[i])

interface Model {
  readonly size: number
  /** Numbers of bytes written to and read from the ring so far. */
  produced: number
  consumed: number
}
interface Real {
  readonly memory: ByteRingMemory
  producer: ByteRingProducer
  consumer: ByteRingConsumer
}

class Write implements fc.Command<Model, Real> {
  readonly length: number
  readonly from: number
  constructor(length: number, from: number) {
    this.length = length
    this.from = from
  }
  check = (): boolean => true
  run(model: Model, { producer }: Real): void {
    const bytes = new Uint8Array(this.from + this.length + 3)
    bytes.set(streamed(model.produced, model.produced + this.length), this.from)
    const expected = Math.min(this.length, model.size - (model.produced - model.consumed))
    assert.strictEqual(producer.write(bytes, this.from, this.from + this.length), expected)
    model.produced += expected
  }
  toString = (): string => `Write(${this.length}, ${this.from})`
}

class Read implements fc.Command<Model, Real> {
  readonly max: number
  constructor(max: number) {
    this.max = max
  }
  check = (): boolean => true
  run(model: Model, { consumer }: Real): void {
    const into = new Uint8Array(this.max)
    const expected = Math.min(this.max, model.produced - model.consumed)
    assert.strictEqual(consumer.read(into), expected)
    assert.isTrue(
      sameBytes(into.subarray(0, expected), streamed(model.consumed, model.consumed + expected)),
    )
    assert.isTrue(into.subarray(expected).every((byte) => byte === 0))
    model.consumed += expected
  }
  toString = (): string => `Read(${this.max})`
}

/** Replaces either end by a new one at any time: the new end finds its index in the page. */
class Reattach implements fc.Command<Model, Real> {
  check = (): boolean => true
  run(_model: Model, real: Real): void {
    real.producer = new ByteRingProducer(real.memory)
    real.consumer = new ByteRingConsumer(real.memory)
  }
  toString = (): string => 'Reattach'
}

describe('a ring of bytes', () => {
  test('behaves like a queue, from any index, in any chunks', () => {
    const length = fc.oneof(fc.nat(70), fc.nat(1100))
    const commands = [
      fc.tuple(length, fc.nat(5)).map((args) => new Write(...args)),
      length.map((max) => new Read(max)),
      fc.constant(new Reattach()),
    ]
    const property = fc.property(
      anyIndex,
      anySize,
      fc.commands(commands, { maxCommands: 200, size: 'max' }),
      (index, size, sequence) => {
        const memory = byteRingMemory({ size, index })
        fc.modelRun(
          () => ({
            model: { size, produced: 0, consumed: 0 },
            real: {
              memory,
              producer: new ByteRingProducer(memory),
              consumer: new ByteRingConsumer(memory),
            },
          }),
          sequence,
        )
      },
    )
    expect(() => fc.assert(property, { numRuns: 100 })).not.toThrow()
  })

  test('changes nothing outside its data and its index', () => {
    fc.assert(
      fc.property(anyIndex, anySize, (index, size) => {
        const memory = byteRingMemory({ size, index })
        new ByteRingProducer(memory).write(new Uint8Array(size).fill(0xff))
        new ByteRingConsumer(memory).read(new Uint8Array(size))
        expect(indicesOf(memory)).toEqual({
          prod: (index + size) >>> 0,
          cons: (index + size) >>> 0,
        })
        setIndices(memory, { prod: 0, cons: 0 })
        memory.data.fill(0)
        expect(new Uint8Array(memory.data.buffer).every((byte) => byte === 0)).toBe(true)
      }),
    )
  })

  test.each([0, 3, 48])('data of %i bytes is refused', (length) => {
    const memory = { ...byteRingMemory(), data: new Uint8Array(length) }
    expect(() => new ByteRingProducer(memory)).toThrow(
      `"data" of "in" expected a power of two, got ${length} bytes`,
    )
  })

  test.each([-4, 2, 64])('an index at %i is refused', (offset) => {
    const memory = byteRingMemory()
    expect(() => new ByteRingProducer({ ...memory, cons: offset })).toThrow(RangeError)
    expect(() => new ByteRingConsumer({ ...memory, prod: offset })).toThrow(RangeError)
  })

  test.each([
    [0, 9],
    [5, 4],
    [-1, 3],
    [0.5, 3],
  ])('bytes %s to %s of 8 are refused', (from, to) => {
    const memory = byteRingMemory()
    expect(() => new ByteRingProducer(memory).write(new Uint8Array(8), from, to)).toThrow(
      /"(start|end)" expected an integer/,
    )
    expect(indicesOf(memory)).toEqual({ prod: 0, cons: 0 })
  })
})

describe('an index that no correct peer can have written', () => {
  test.each([
    [0, 65],
    [0, -1],
    [2 ** 31, 65],
    [2 ** 32 - 1, 65],
    [2 ** 32 - 64, -1],
  ])('is refused by both ends at %i, %i away, and nothing moves', (index, away) => {
    const distance = away >>> 0
    const memory = byteRingMemory({ index })
    const consumer = new ByteRingConsumer(memory)
    const ahead = (index + distance) >>> 0
    setIndices(memory, { prod: ahead })
    const text = (prod: number, cons: number) =>
      new RingProtocolError(
        `"in_prod" ${prod} is ${distance} ahead of "in_cons" ${cons}, at most 64 is possible`,
        { indices: { prod, cons } },
      )
    expect(() => consumer.read(new Uint8Array(64))).toThrow(text(ahead, index))
    expect(indicesOf(memory)).toEqual({ prod: ahead, cons: index })

    setIndices(memory, { prod: index })
    const producer = new ByteRingProducer(memory)
    const behind = (index - distance) >>> 0
    setIndices(memory, { cons: behind })
    expect(() => producer.write(new Uint8Array(1))).toThrow(text(index, behind))
    expect(indicesOf(memory)).toEqual({ prod: index, cons: behind })
  })

  test('is one beyond a full ring, while a full ring is valid', () => {
    const memory = byteRingMemory()
    const [producer, consumer] = [new ByteRingProducer(memory), new ByteRingConsumer(memory)]
    expect(producer.write(streamed(0, 65))).toBe(64)
    expect(producer.write(streamed(64, 65))).toBe(0)
    expect(consumer.read(new Uint8Array(100))).toBe(64)
  })

  test('is reported with both indices', () => {
    const memory = byteRingMemory()
    const consumer = new ByteRingConsumer(memory)
    setIndices(memory, { prod: 4711 })
    expect(() => consumer.read(new Uint8Array(1))).toThrow(
      expect.objectContaining({
        code: 'ERR_XEN_RING_PROTOCOL',
        details: { indices: { prod: 4711, cons: 0 } },
      }),
    )
  })
})

/** Lets the other side write before and after every access to an index. */
function attacker({ page, data }: ByteRingMemory, writes: Iterator<Attack[]>): Interceptor {
  const attack = (): void => {
    for (const { where, at, value } of writes.next().value ?? []) {
      if (where === 'data') data[at % data.length] = value
      else new DataView(page.buffer, page.byteOffset).setUint32(where, value, true)
    }
  }
  const around = <T>(access: () => T): T => {
    attack()
    const result = access()
    attack()
    return result
  }
  return {
    load: (words, index, load) => around(() => load(words, index)),
    store: (words, index, value, store) => around(() => store(words, index, value)),
  }
}
interface Attack {
  readonly where: 'data' | typeof PROD | typeof CONS
  readonly at: number
  readonly value: number
}

test('for arbitrary writes between any two steps, an end serves or refuses, and only its own calls move it', () => {
  const attack = fc.record({
    where: fc.constantFrom('data' as const, PROD as typeof PROD, CONS as typeof CONS),
    at: fc.nat(63),
    value: fc.oneof(anyIndex, fc.nat(64)),
  })
  const property = fc.property(
    anyIndex,
    fc.array(fc.tuple(fc.constantFrom('write', 'read'), fc.nat(80)), { maxLength: 60 }),
    fc.array(fc.array(attack, { maxLength: 3 }), { maxLength: 200 }),
    (index, steps, attacks) => {
      const memory = byteRingMemory({ index })
      const producer = new ByteRingProducer(memory)
      const consumer = new ByteRingConsumer(memory)
      let [prod, cons] = [index, index]
      const serve = (step: () => number): number => {
        try {
          const moved = step()
          assert.isAtLeast(moved, 0)
          assert.isAtMost(moved, 64)
          return moved
        } catch (error) {
          assert.instanceOf(error, RingProtocolError)
          return 0
        }
      }
      const before = new Uint8Array(memory.data.buffer, 0, DATA).slice()
      intercepted(attacker(memory, attacks[Symbol.iterator]()), () => {
        for (const [step, length] of steps) {
          if (step === 'write') {
            prod = (prod + serve(() => producer.write(new Uint8Array(length)))) >>> 0
          } else cons = (cons + serve(() => consumer.read(new Uint8Array(length)))) >>> 0
        }
      })
      // After a transfer, each end's published index shows its private index.
      setIndices(memory, { cons: (prod - 1) >>> 0 })
      producer.write(new Uint8Array(1))
      assert.strictEqual(indicesOf(memory).prod, (prod + 1) >>> 0)
      setIndices(memory, { prod: (cons + 1) >>> 0 })
      consumer.read(new Uint8Array(1))
      assert.strictEqual(indicesOf(memory).cons, (cons + 1) >>> 0)
      assert.deepStrictEqual(new Uint8Array(memory.data.buffer, 0, DATA), before)
    },
  )
  expect(() => fc.assert(property, { numRuns: 500 })).not.toThrow()
})
