import * as fc from 'fast-check'
import { RingProtocolError } from '@xenkit/hypervisor'
import { describe, expect, test } from 'vitest'
import { BackRing, FrontRing } from '../src/index.ts'
import { intercepted } from './support/intercept.ts'
import {
  anyGeometry,
  anyIndex,
  readMessage,
  ringMemory,
  setIndices,
  writeMessage,
} from './support/ring-memory.ts'

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

/** Both ends of one ring, and helpers that move tagged messages. */
function bothEnds(o: { pages?: number; slotSize?: number; index?: number } = {}) {
  const memory = ringMemory(o)
  const front = FrontRing.attach({ ...memory, index: o.index ?? 0 })
  const back = BackRing.attach(memory)
  return {
    memory,
    front,
    back,
    request: (...tags: number[]): boolean => {
      for (const tag of tags) writeMessage(memory, front.reserveRequest(), tag)
      return front.publish()
    },
    respond: (...tags: number[]): boolean => {
      for (const tag of tags) writeMessage(memory, back.reserveResponse(), tag)
      return back.publish()
    },
  }
}

test('an index is read once for all messages that it covers', () => {
  const { back, request } = bothEnds()
  const looks = (max: number): [count: number, looks: number] => {
    let count = 0
    const taken = intercepted(
      {
        load: (words, index, real) => (count++, real(words, index)),
        store: (words, index, value, real) => real(words, index, value),
      },
      () => back.drain(max),
    )
    return [taken, count]
  }
  request(...range(8))
  expect([looks(3), looks(3)]).toEqual([
    [3, 1],
    [3, 0],
  ])
  request(8)
  // Two messages are known already, so a drain of more reads the peer's index again.
  expect([looks(3), looks(3), looks(0)]).toEqual([
    [3, 1],
    [0, 1],
    [0, 0],
  ])
})

describe('a ring, from any index and of any geometry', () => {
  test('carries every message once, in order and unchanged, when it is full each time', () => {
    fc.assert(
      fc.property(anyIndex, anyGeometry, (index, geometry) => {
        const { front, back, request, respond } = bothEnds({ ...geometry, index })
        for (let round = 0; round < 3; round++) {
          const tags = range(front.size).map((i) => round * 1000 + i)
          request(...tags)
          expect(front.free).toBe(0)
          expect(() => front.reserveRequest()).toThrow(RangeError)
          expect(back.drain(back.size)).toBe(tags.length)
          expect(tags.map((_, i) => readMessage(back, i))).toEqual(tags)
          expect(back.drain(back.size)).toBe(0)
          expect(back.unanswered).toBe(tags.length)
          respond(...tags.toReversed())
          expect(back.unanswered).toBe(0)
          expect(() => back.reserveResponse()).toThrow(RangeError)
          expect(front.drain(front.size)).toBe(tags.length)
          expect(tags.map((_, i) => readMessage(front, i))).toEqual(tags.toReversed())
          expect(front.free).toBe(front.size)
        }
      }),
      { numRuns: 60 },
    )
  })

  test('touches nothing outside its pages', () => {
    fc.assert(
      fc.property(anyIndex, anyGeometry, (index, geometry) => {
        const { memory, front, back, request, respond } = bothEnds({ ...geometry, index })
        const around = new Uint8Array(memory.bytes.buffer)
        request(...range(front.size))
        back.drain(back.size)
        respond(...range(front.size))
        const end = 4096 + geometry.pages * 4096
        expect(around.subarray(0, 4096).every((byte) => byte === 0)).toBe(true)
        expect(around.subarray(end).every((byte) => byte === 0)).toBe(true)
      }),
      { numRuns: 20 },
    )
  })

  test('drains at most max messages', () => {
    fc.assert(
      fc.property(anyIndex, fc.integer({ min: 0, max: 40 }), (index, max) => {
        const { back, request } = bothEnds({ index })
        request(...range(32))
        const taken = back.drain(max)
        expect(taken).toBe(Math.min(max, 32))
        expect(back.drain(32)).toBe(32 - taken)
        expect(range(32 - taken).map((i) => readMessage(back, i))).toEqual(range(32).slice(taken))
      }),
    )
  })

  test('shows a message only once it is published', () => {
    const { memory, front, back } = bothEnds()
    writeMessage(memory, front.reserveRequest(), 1)
    expect(back.drain(1)).toBe(0)
    front.publish()
    expect(back.drain(1)).toBe(1)
    writeMessage(memory, back.reserveResponse(), 2)
    expect(front.drain(1)).toBe(0)
    back.publish()
    expect(front.drain(1)).toBe(1)
  })

  test('keeps drained requests when responses take their slots', () => {
    const { back, request, respond } = bothEnds()
    request(...range(32))
    back.drain(32)
    respond(...range(32).map((i) => 500 + i))
    expect(range(32).map((i) => readMessage(back, i))).toEqual(range(32))
  })

  test.each([NaN, -1, 1.5, Infinity])('drain(%s) is refused', (max) => {
    expect(() => bothEnds().back.drain(max)).toThrow(/"max" expected an integer/)
  })
})

/** Whether `event` is in (old, next], found by counting up from `old`. */
function passes(old: number, next: number, event: number): boolean {
  for (let i = old; i !== next; i = (i + 1) >>> 0) if ((i + 1) >>> 0 === event) return true
  return false
}

describe('notification', () => {
  test('is due exactly when the event index is passed', () => {
    fc.assert(
      fc.property(
        anyIndex,
        fc.integer({ min: 1, max: 32 }),
        fc.integer({ min: -40, max: 40 }),
        (index, count, distance) => {
          const event = (index + distance) >>> 0
          const wanted = passes(index, (index + count) >>> 0, event)
          const { memory, back, request, respond } = bothEnds({ index })
          setIndices(memory.bytes, { req_event: event, rsp_event: event })
          expect(request(...range(count))).toBe(wanted)
          back.drain(32)
          expect(respond(...range(count))).toBe(wanted)
        },
      ),
    )
  })

  test('is not due when nothing was published', () => {
    const { memory, front, back } = bothEnds({ index: 5 })
    setIndices(memory.bytes, { req_event: 5, rsp_event: 5 })
    expect([front.publish(), back.publish()]).toEqual([false, false])
  })

  test('is requested by the final check, for the next message', () => {
    fc.assert(
      fc.property(anyIndex, (index) => {
        const { front, back, request, respond } = bothEnds({ index })
        expect(request(0)).toBe(true)
        expect(request(1)).toBe(false) // the backend hasn't asked for another notification yet
        expect(back.finalCheck()).toBe(true) // requests wait, so the event index isn't armed
        expect(back.indices().reqEvent).toBe((index + 1) >>> 0)
        back.drain(32)
        expect(back.finalCheck()).toBe(false)
        expect(back.indices().reqEvent).toBe((index + 3) >>> 0)
        expect(request(2)).toBe(true)

        expect(respond(0)).toBe(true)
        expect(respond(1)).toBe(false)
        expect(front.finalCheck()).toBe(true)
        front.drain(32)
        expect(front.finalCheck()).toBe(false)
        expect(front.indices().rspEvent).toBe((index + 3) >>> 0)
      }),
    )
  })
})

describe('init and attach', () => {
  test('init formats the header and nothing else', () => {
    const memory = ringMemory()
    memory.bytes.fill(0xaa)
    FrontRing.init(memory)
    const header = new Uint8Array(64)
    header[4] = header[12] = 1 // req_event, rsp_event
    expect(memory.bytes.subarray(0, 64)).toEqual(header)
    expect(memory.bytes.subarray(64).every((byte) => byte === 0xaa)).toBe(true)
  })

  test('a backend starts at rsp_prod, so that unanswered requests are drained again', () => {
    fc.assert(
      fc.property(anyIndex, fc.integer({ min: 0, max: 32 }), (index, answered) => {
        const { memory, back, request, respond } = bothEnds({ index })
        request(...range(32))
        back.drain(32)
        respond(...range(answered))
        const successor = BackRing.attach(memory)
        expect(successor.drain(32)).toBe(32 - answered)
        expect(range(32 - answered).map((i) => readMessage(successor, i))).toEqual(
          range(32).slice(answered),
        )
      }),
    )
  })

  test('a backend may start at another index', () => {
    const { memory, request } = bothEnds({ index: 2 ** 32 - 1 })
    request(7, 8)
    const back = BackRing.attach({ ...memory, index: 0 })
    expect([back.drain(32), readMessage(back, 0)]).toEqual([1, 8])
  })

  test('a ring with more requests than slots, or fewer than none, is refused', () => {
    fc.assert(
      fc.property(anyIndex, fc.integer({ min: 33, max: 2 ** 32 - 1 }), (index, ahead) => {
        const memory = ringMemory({ index })
        setIndices(memory.bytes, { req_prod: (index + ahead) >>> 0 })
        expect(() => BackRing.attach(memory)).toThrow(RingProtocolError)
        expect(() => BackRing.attach({ ...memory, index })).toThrow(RingProtocolError)
        setIndices(memory.bytes, { req_prod: (index + 32) >>> 0 })
        expect(BackRing.attach(memory).drain(32)).toBe(32)
      }),
    )
  })

  test('a frontend refuses a response when none is outstanding', () => {
    const memory = ringMemory({ index: 9 })
    expect(() => FrontRing.attach({ ...memory, index: 8 })).toThrow(RingProtocolError)
    expect(FrontRing.attach({ ...memory, index: 9 }).free).toBe(32)
  })

  test.each([
    ['half a page', new Uint8Array(2048), 112],
    ['no page', new Uint8Array(0), 112],
    ['a page not at a page boundary', new Uint8Array(new ArrayBuffer(8192), 64, 4096), 112],
    ['a slot of 6 bytes', new Uint8Array(4096), 6],
    ['a slot of 0 bytes', new Uint8Array(4096), 0],
    ['a slot that does not fit', new Uint8Array(4096), 4036],
  ])('%s is refused', (_name, bytes, slotSize) => {
    expect(() => BackRing.attach({ bytes, slotSize, index: 0 })).toThrow(RangeError)
    expect(() => FrontRing.attach({ bytes, slotSize, index: 0 })).toThrow(RangeError)
  })

  test.each([-1, 2 ** 32, 0.5])('index %s is refused', (index) => {
    expect(() => BackRing.attach({ ...ringMemory(), index })).toThrow(/"index" expected/)
    expect(() => FrontRing.attach({ ...ringMemory(), index })).toThrow(/"index" expected/)
  })
})

test('describes itself with all six indices', () => {
  const { front, back, request, respond } = bothEnds({ index: 2 ** 32 - 2 })
  request(1, 2, 3)
  back.drain(2)
  respond(1)
  expect(back.toString()).toBe(
    'back ring of 32 slots, req_prod 1 req_event 4294967295 rsp_prod 4294967295 rsp_event 4294967295 rsp_prod_pvt 4294967295 req_cons 0',
  )
  expect(front.indices()).toEqual({
    reqProd: 1,
    reqEvent: 4294967295,
    rspProd: 4294967295,
    rspEvent: 4294967295,
    producer: 1,
    consumer: 4294967294,
  })
})
