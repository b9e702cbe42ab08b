/**
 * Property: the other domain writes anything into the ring at any time. Each call of an end then
 * either succeeds or throws a RingProtocolError. An end's indices move only by its own calls, and
 * nothing in shared memory is read twice.
 */
import * as fc from 'fast-check'
import { RingProtocolError } from '@xenkit/hypervisor'
import { describe, expect, test } from 'vitest'
import { BackRing, FrontRing } from '../src/index.ts'
import { intercepted, type Interceptor } from './support/intercept.ts'
import {
  anyIndex,
  readMessage,
  ringMemory,
  setIndices,
  writeMessage,
  type IndexName,
} from './support/ring-memory.ts'

/** One write of the other domain: anywhere in the page, often at one of the four index words. */
const write = fc.record({
  at: fc.oneof(fc.constantFrom(0, 4, 8, 12), fc.nat(4095 - 4)),
  value: fc.oneof(anyIndex, fc.integer({ min: 0, max: 64 })),
})
type Write = { at: number; value: number }

/**
 * Lets the other domain write before and after every access to a shared index, the only places
 * where an end depends on the page.
 */
function attacker(bytes: Uint8Array, writes: Iterator<Write[]>): Interceptor {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const around = <T>(access: () => T): T => {
    attack()
    const result = access()
    attack()
    return result
  }
  const attack = (): void => {
    for (const { at, value } of writes.next().value ?? []) view.setUint32(at, value, true)
  }
  return {
    load: (words, index, load) => around(() => load(words, index)),
    store: (words, index, value, store) => around(() => store(words, index, value)),
  }
}

/** Runs a step that may throw a RingProtocolError only. */
function serve<T>(step: () => T): T | undefined {
  try {
    return step()
  } catch (error) {
    expect(error).toBeInstanceOf(RingProtocolError)
    return undefined
  }
}

type Step = 'drain' | 'reserve' | 'publish' | 'finalCheck'
const steps = fc.array(fc.constantFrom<Step>('drain', 'reserve', 'publish', 'finalCheck'), {
  minLength: 1,
  maxLength: 60,
})
const attacks = fc.array(fc.array(write, { maxLength: 3 }), { maxLength: 200 })

/** One end of a ring under attack. */
interface End {
  readonly ring: BackRing | FrontRing
  /** Free slots, as the ring reports them. */
  readonly room: () => number
  readonly reserve: () => number
  /** Free slots, calculated from the two private indices. */
  readonly expectedRoom: (consumed: number, produced: number) => number
}

/**
 * Takes the steps. After each step, the end's private indices must be where its own calls have
 * moved them.
 */
function surviveAttack(
  { ring, room, reserve, expectedRoom }: End,
  index: number,
  sequence: readonly Step[],
): void {
  let consumed = index
  let produced = index
  let reserved = 0
  for (const step of sequence) {
    if (step === 'drain') {
      consumed = (consumed + (serve(() => ring.drain(32)) ?? 0)) >>> 0
    } else if (step === 'reserve' && room() > 0) {
      reserved = reserve()
      produced = (produced + 1) >>> 0
    } else if (step === 'publish') {
      ring.publish()
    } else {
      serve(() => ring.finalCheck())
    }
    expect(reserved).toBe(produced === index ? 0 : 64 + ((produced - 1) & 31) * 112)
    expect(ring.indices()).toMatchObject({ consumer: consumed, producer: produced })
    expect(room()).toBe(expectedRoom(consumed, produced))
    expect(room()).toBeGreaterThanOrEqual(0)
    expect(room()).toBeLessThanOrEqual(32)
  }
}

describe('arbitrary writes between any two steps are survived', () => {
  test('by a backend', () => {
    fc.assert(
      fc.property(anyIndex, steps, attacks, (index, sequence, writes) => {
        const memory = ringMemory({ index })
        const ring = BackRing.attach(memory)
        const end: End = {
          ring,
          room: () => ring.unanswered,
          reserve: () => ring.reserveResponse(),
          expectedRoom: (consumed, produced) => (consumed - produced) >>> 0,
        }
        intercepted(attacker(memory.bytes, writes[Symbol.iterator]()), () =>
          surviveAttack(end, index, sequence),
        )
      }),
      { numRuns: 300 },
    )
    expect.hasAssertions()
  })

  test('by a frontend', () => {
    fc.assert(
      fc.property(anyIndex, steps, attacks, (index, sequence, writes) => {
        const memory = ringMemory({ index })
        const ring = FrontRing.attach({ ...memory, index })
        const end: End = {
          ring,
          room: () => ring.free,
          reserve: () => ring.reserveRequest(),
          expectedRoom: (consumed, produced) => 32 - ((produced - consumed) >>> 0),
        }
        intercepted(attacker(memory.bytes, writes[Symbol.iterator]()), () =>
          surviveAttack(end, index, sequence),
        )
      }),
      { numRuns: 300 },
    )
    expect.hasAssertions()
  })
})

const expectDrained = (ring: BackRing | FrontRing, count: number): void =>
  expect(ring.drain(32)).toBe(count)

/** Expects that `drain` and `finalCheck`, which read the peer's index, throw and change nothing. */
function expectRefused(ring: BackRing | FrontRing): void {
  const before = ring.indices()
  for (const call of [() => ring.drain(32), () => ring.finalCheck()]) {
    expect(call).toThrow(RingProtocolError)
    expect(call).toThrow(
      expect.objectContaining({ code: 'ERR_XEN_RING_PROTOCOL', details: { indices: before } }),
    )
  }
  expect(ring.indices()).toEqual(before)
}

describe('an index that no correct peer can have written', () => {
  test('req_prod beyond the ring, or moved backwards', () => {
    fc.assert(
      fc.property(
        anyIndex,
        fc.integer({ min: 0, max: 32 }),
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        (index, taken, claim) => {
          const memory = ringMemory({ index })
          const back = BackRing.attach(memory)
          setIndices(memory.bytes, { req_prod: (index + taken) >>> 0 })
          back.drain(32)
          const claimed = (index + taken + claim) >>> 0
          setIndices(memory.bytes, { req_prod: claimed })
          if (claim <= 32 - taken) expectDrained(back, claim)
          else expectRefused(back)
        },
      ),
    )
    expect.hasAssertions()
  })

  test('rsp_prod for a request that was never published', () => {
    fc.assert(
      fc.property(
        anyIndex,
        fc.integer({ min: 0, max: 32 }),
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        (index, requests, claim) => {
          const memory = ringMemory({ index })
          const front = FrontRing.attach({ ...memory, index })
          for (let i = 0; i < requests; i++) front.reserveRequest()
          front.publish()
          // a reserved slot alone isn't visible to the peer
          if (requests < 32) front.reserveRequest()
          setIndices(memory.bytes, { rsp_prod: (index + claim) >>> 0 })
          if (claim <= requests) expectDrained(front, claim)
          else expectRefused(front)
        },
      ),
    )
    expect.hasAssertions()
  })

  test('does no lasting harm: a peer that corrects it is served', () => {
    const memory = ringMemory({ index: 2 ** 32 - 3 })
    const back = BackRing.attach(memory)
    setIndices(memory.bytes, { req_prod: 1000 })
    expect(() => back.drain(32)).toThrow(
      '"req_prod" is 1003 ahead of req_cons, at most 32 is possible: back ring of 32 slots, req_prod 1000',
    )
    setIndices(memory.bytes, { req_prod: 2 })
    expect(back.drain(32)).toBe(5)
  })
})

test('own indices are never read back', () => {
  const memory = ringMemory({ index: 100 })
  const back = BackRing.attach(memory)
  const front = FrontRing.attach({ ...memory, index: 100 })
  const lie = (...names: IndexName[]): void =>
    setIndices(memory.bytes, Object.fromEntries(names.map((name) => [name, 0xdead_beef])))
  front.reserveRequest()
  front.publish()
  lie('rsp_prod', 'req_event')
  expect(back.drain(32)).toBe(1)
  back.reserveResponse()
  setIndices(memory.bytes, { rsp_event: 101 })
  lie('rsp_prod')
  expect(back.publish()).toBe(true)
  lie('req_prod', 'rsp_event')
  expect(front.drain(32)).toBe(1)
  expect(front.free).toBe(32)
})

test("slots are read once: a drained image doesn't depend on the page (XSA-155)", () => {
  const memory = ringMemory()
  const front = FrontRing.attach({ ...memory, index: 0 })
  const back = BackRing.attach(memory)
  for (let tag = 0; tag < 32; tag++) writeMessage(memory, front.reserveRequest(), tag)
  front.publish()
  back.drain(32)
  memory.bytes.fill(0xff)
  for (let tag = 0; tag < 32; tag++) expect(readMessage(back, tag)).toBe(tag)
})
