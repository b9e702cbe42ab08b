/** The parser of replies: correct streams however they are split, and streams that aren't NBD. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { NbdProtocolError } from '../../src/nbd/nbd-error.ts'
import { ReplyParser } from '../../src/nbd/replies.ts'
import { simpleReply } from './support/nbd-server.ts'

interface Reply {
  readonly cookie: number
  readonly error: number
  /** The data that follows the reply, and the lengths of the buffers that receive it. */
  readonly data: readonly Uint8Array[]
}

const reply: fc.Arbitrary<Reply> = fc.record({
  cookie: fc.nat(0xffff_ffff),
  error: fc.nat(0xffff_ffff),
  data: fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 4 }),
})
const replies = fc.uniqueArray(reply, { maxLength: 20, selector: ({ cookie }) => cookie })

const encode = (all: readonly Reply[]): Uint8Array =>
  Buffer.concat(
    all.flatMap(({ cookie, error, data }) => [simpleReply(BigInt(cookie), error), ...data]),
  )

/** Returns a parser that expects these replies, and the list of replies that it has parsed. */
function parserOf(expected: readonly Reply[]): { parser: ReplyParser; answered: Reply[] } {
  const waiting = new Map(
    expected.map(({ cookie, data }) => [cookie, data.map(({ length }) => new Uint8Array(length))]),
  )
  const answered: Reply[] = []
  const parser = new ReplyParser({
    dataOf: (cookie) => waiting.get(cookie) ?? unknown(cookie),
    answered(cookie, error) {
      answered.push({
        cookie,
        error,
        data: (waiting.get(cookie) ?? unknown(cookie)).map((buffer) => buffer.slice()),
      })
      waiting.delete(cookie)
    },
  })
  return { parser, answered }
}

function unknown(cookie: number): never {
  throw new NbdProtocolError('unknown', { field: 'cookie', value: cookie })
}

/**
 * Splits bytes at the given positions, in any order; a position that comes twice adds an empty
 * part.
 */
function* split(bytes: Uint8Array, cuts: readonly number[]): Generator<Uint8Array> {
  const places = cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b)
  for (const [i, place] of [0, ...places].entries()) {
    yield bytes.slice(place, places[i] ?? bytes.length)
  }
}

test('any stream, however it is split, fills the buffers and is answered in its order', () => {
  fc.assert(
    fc.property(replies, fc.array(fc.nat(), { maxLength: 40 }), (all, cuts) => {
      const { parser, answered } = parserOf(all)
      for (const chunk of split(encode(all), cuts)) {
        parser.push(chunk)
        chunk.fill(0xee) // the caller may reuse the chunk's memory once `push` has returned
      }
      expect(answered).toEqual(all)
    }),
  )
})

test('byte by byte', () => {
  const all = [
    { cookie: 1, error: 0, data: [Uint8Array.of(1, 2, 3), Uint8Array.of(4)] },
    { cookie: 0xffff_ffff, error: 5, data: [] },
    {
      cookie: 0,
      error: 0,
      data: [new Uint8Array(0), new Uint8Array(600).fill(9), new Uint8Array(0)],
    },
  ]
  const { parser, answered } = parserOf(all)
  for (const byte of encode(all)) parser.push(Uint8Array.of(byte))
  expect(answered).toEqual(all)
})

test('a reply that ends with its chunk is answered at once', () => {
  const all = [{ cookie: 1, error: 0, data: [Uint8Array.of(1, 2), new Uint8Array(0)] }]
  const { parser, answered } = parserOf(all)
  parser.push(encode(all))
  expect(answered).toHaveLength(1)
})

test('a stream that is cut completes only the replies that arrived whole', () => {
  fc.assert(
    fc.property(replies, fc.nat(), (all, at) => {
      const bytes = encode(all)
      const { parser, answered } = parserOf(all)
      parser.push(bytes.subarray(0, at % (bytes.length + 1)))
      expect(answered).toEqual(all.slice(0, answered.length))
      const used = encode(answered).length
      expect(used).toBeLessThanOrEqual(at % (bytes.length + 1))
    }),
  )
})

test.each([
  [
    'a wrong magic',
    Uint8Array.of(0x67, 0x44, 0x66, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
    /"magic" expected 0x67446698, got 0x67446699/,
  ],
  [
    'a structured reply',
    Uint8Array.of(0x66, 0x8e, 0x33, 0xef, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
    /"magic"/,
  ],
  ['a cookie beyond ours', simpleReply(0x1_0000_0001n), /"cookie" expected 0x0, got 0x1/],
])('%s is named, however it comes', (_, bytes, says) => {
  for (const at of [0, 1, 15]) {
    const { parser, answered } = parserOf([{ cookie: 1, error: 0, data: [] }])
    parser.push(bytes.subarray(0, at))
    expect(() => parser.push(bytes.subarray(at))).toThrow(says)
    expect(answered).toEqual([])
  }
})

test('garbage is an NbdProtocolError, and fills only buffers of requests in flight', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 60 }),
          reply.map((one) => encode([one])),
        ),
        { maxLength: 8 },
      ),
      (chunks) => {
        const { parser } = parserOf([{ cookie: 1, error: 0, data: [new Uint8Array(4)] }])
        let thrown: unknown = new NbdProtocolError('none', { field: '', value: 0 })
        try {
          for (const chunk of chunks) parser.push(chunk)
        } catch (error) {
          thrown = error
        }
        expect(thrown).toBeInstanceOf(NbdProtocolError)
      },
    ),
  )
})
