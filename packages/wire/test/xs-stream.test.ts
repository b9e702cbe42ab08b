import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  XENSTORE_PAYLOAD_MAX,
  XS,
  XsFormatError,
  XsPacker,
  XsParser,
  xsdSockmsg,
  xsTypeName,
} from '../src/index.ts'

interface Message {
  readonly type: number
  readonly req_id: number
  readonly tx_id: number
  readonly payload: readonly number[]
}

const u32 = fc.nat(0xffff_ffff)
const message: fc.Arbitrary<Message> = fc.record({
  type: u32,
  req_id: u32,
  tx_id: u32,
  payload: fc.array(fc.nat(255), { maxLength: 40 }),
})

/**
 * Encodes messages through the schema of the header, independently of the parser and packer: they
 * could agree on a wrong layout.
 */
function encode(messages: readonly Message[]): Uint8Array {
  return Uint8Array.from(
    messages.flatMap(({ payload, ...header }) => {
      const bytes = new Uint8Array(xsdSockmsg.size)
      xsdSockmsg.encode({ ...header, len: payload.length }, bytes)
      return [...bytes, ...payload]
    }),
  )
}

function collect(): { parser: XsParser; messages: Message[] } {
  const messages: Message[] = []
  const parser = new XsParser((type, req_id, tx_id, payload) =>
    messages.push({ type, req_id, tx_id, payload: [...payload] }),
  )
  return { parser, messages }
}

/**
 * Splits bytes at the given positions, in any order; a position that comes twice adds an empty
 * part.
 */
function* split(bytes: Uint8Array, cuts: readonly number[]): Generator<Uint8Array> {
  const places = cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b)
  for (const [i, place] of [0, ...places].entries()) {
    yield bytes.subarray(place, places[i] ?? bytes.length)
  }
}

test('any stream gives its messages, however it is split', () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 20 }),
      fc.array(fc.nat(), { maxLength: 30 }),
      (messages, cuts) => {
        const { parser, messages: parsed } = collect()
        for (const chunk of split(encode(messages), cuts)) parser.push(chunk)
        expect(parsed).toEqual(messages)
      },
    ),
  )
})

test('one message at a time, however the stream is split', () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 20 }),
      fc.array(fc.nat(), { maxLength: 30 }),
      (messages, cuts) => {
        const { parser, messages: parsed } = collect()
        for (const chunk of split(encode(messages), cuts)) {
          for (let offset = 0; offset < chunk.length;) {
            const before = parsed.length
            offset += parser.take(chunk, offset)
            expect(parsed.length - before).toBeLessThanOrEqual(1)
          }
        }
        expect(parsed).toEqual(messages)
      },
    ),
  )
})

test('byte by byte', () => {
  const messages = [
    { type: 2, req_id: 7, tx_id: 0, payload: [47, 0] },
    { type: 2, req_id: 8, tx_id: 0, payload: [] },
    { type: 16, req_id: 9, tx_id: 1, payload: Array.from({ length: 4096 }, (_, i) => i & 255) },
  ]
  const { parser, messages: parsed } = collect()
  for (const byte of encode(messages)) parser.push(Uint8Array.of(byte))
  expect(parsed).toEqual(messages)
})

test('a message within one chunk is not copied', () => {
  const bytes = encode([{ type: 2, req_id: 1, tx_id: 0, payload: [1, 2, 3] }])
  let seen: Uint8Array | undefined
  new XsParser((_type, _reqId, _txId, payload) => {
    seen = payload
  }).push(bytes)
  expect(seen?.buffer).toBe(bytes.buffer)
})

test('an illegal length is an error as soon as the header has arrived', () => {
  const header = new Uint8Array(xsdSockmsg.size)
  xsdSockmsg.encode({ type: 2, req_id: 1, tx_id: 0, len: XENSTORE_PAYLOAD_MAX + 1 }, header)
  for (const at of [0, 1, 15]) {
    const { parser, messages } = collect()
    parser.push(header.subarray(0, at))
    expect(() => parser.push(header.subarray(at))).toThrow(new XsFormatError(4097))
    expect(messages).toEqual([])
  }
  expect(new XsFormatError(4097).message).toContain('"len" expected 0..4096, got 4097')
})

test('garbage gives messages of a legal size or an XsFormatError, and no other error', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 10 }), (chunks) => {
      const { parser, messages } = collect()
      let thrown: unknown = new XsFormatError(0)
      try {
        for (const chunk of chunks) parser.push(chunk)
      } catch (error) {
        thrown = error
      }
      expect(thrown).toBeInstanceOf(XsFormatError)
      expect(messages.filter(({ payload }) => payload.length > XENSTORE_PAYLOAD_MAX)).toEqual([])
    }),
  )
})

describe('the packer', () => {
  test('packs messages that the parser splits again', () => {
    const texted = fc.record({
      type: u32,
      req_id: u32,
      tx_id: u32,
      text: fc.string({ unit: 'grapheme', maxLength: 30 }),
      data: fc.option(fc.uint8Array({ maxLength: 30 }), { nil: undefined }),
    })
    fc.assert(
      fc.property(fc.array(fc.array(texted, { maxLength: 10 }), { maxLength: 5 }), (ticks) => {
        const packer = new XsPacker()
        const { parser, messages } = collect()
        for (const tick of ticks) {
          for (const { type, req_id, tx_id, text, data } of tick) {
            packer.append(type, req_id, tx_id, text, data)
          }
          parser.push(packer.take())
        }
        expect(packer.length).toBe(0)
        expect(messages).toEqual(
          ticks.flat().map(({ text, data, ...ids }) => ({
            ...ids,
            payload: [...new TextEncoder().encode(text), ...(data ?? [])],
          })),
        )
      }),
    )
  })

  test.each(['a\ud800b', '\udfff', 'pair \u{1f600} and half \ud83d'])(
    "rejects text that UTF-8 can't represent: %j",
    (text) => {
      const packer = new XsPacker()
      expect(() => packer.append(XS.WRITE, 1, 0, text)).toThrow(RangeError)
      expect(packer.length).toBe(0)
    },
  )

  test('accepts up to 4096 bytes of UTF-8, and packs nothing longer', () => {
    const packer = new XsPacker()
    packer.append(XS.WRITE, 1, 0, 'é'.repeat(2000), new Uint8Array(96))
    const { length } = packer
    for (const [text, data] of [
      ['é'.repeat(2049), undefined],
      ['x', new Uint8Array(4096)],
      ['x'.repeat(1e9 / 4), undefined],
    ] as const) {
      expect(() => packer.append(XS.WRITE, 2, 0, text, data)).toThrow(RangeError)
      expect(packer.length).toBe(length)
    }
    expect(length).toBe(xsdSockmsg.size + 4096)
  })

  test('a burst larger than the buffer is packed completely', () => {
    const packer = new XsPacker()
    const { parser, messages } = collect()
    for (let id = 0; id < 5000; id++) packer.append(XS.READ, id, 0, `/node/${id}\0`)
    parser.push(packer.take())
    expect(messages.map(({ req_id }) => req_id)).toEqual(
      Array.from({ length: 5000 }, (_, id) => id),
    )
  })
})

test("a payload from a socket's Buffer is a plain Uint8Array, whose slice copies", () => {
  const packer = new XsPacker()
  packer.append(XS.READ, 1, 0, 'value')
  const chunk = Buffer.from(packer.take())
  const kept: Uint8Array[] = []
  new XsParser((_type, _reqId, _txId, payload) => kept.push(payload.slice())).push(chunk)
  chunk.fill(0)
  expect(kept).toEqual([Uint8Array.from(Buffer.from('value'))])
})

test('types have names', () => {
  expect([xsTypeName(XS.READ), xsTypeName(26), xsTypeName(27)]).toEqual(['READ', 'SET_QUOTA', '27'])
})
