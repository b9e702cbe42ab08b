import * as fc from 'fast-check'
import { BufferReader, BufferWriter } from 'typed-binary'
import { describe, expect, test } from 'vitest'
import {
  CArraySchema,
  CStruct,
  CUnion,
  Int64Schema,
  array,
  blkif,
  cstruct,
  grant_entry_v1,
  i16,
  i32,
  i64,
  i64Align4,
  i8,
  netif,
  netstruct,
  padding,
  ringMessages,
  sizeOf,
  sring,
  u16,
  u32,
  u64,
  u64Align4,
  u8,
  xsdSockmsg,
} from '../src/index.ts'
import {
  nbdSimpleReply,
  nbdRequest,
  nbdOptionReply,
  nbdInfoExport,
} from '../../stores/src/nbd/protocol.ts'
import type { CType, Fields } from '../src/index.ts'
import { fsif, keyboard } from './other-headers.ts'

const { segment, request, discard, indirect, response } = blkif.x86_64
const {
  request: request32,
  discard: discard32,
  indirect: indirect32,
  response: response32,
} = blkif.x86_32
const fsif64 = fsif({ u64, i64 }).structs
const fsif32 = fsif({ u64: u64Align4, i64: i64Align4 }).structs
const structs: [string, CStruct<Fields>][] = [
  ['sring', sring],
  ['grant_entry_v1', grant_entry_v1],
  ['xsd_sockmsg', xsdSockmsg],
  ['segment', segment],
  ['request of x86_64', request],
  ['discard of x86_64', discard],
  ['indirect of x86_64', indirect],
  ['response of x86_64', response],
  ['nbd_request', nbdRequest],
  ['nbd_simple_reply', nbdSimpleReply],
  ['nbd_option_reply', nbdOptionReply],
  ['nbd_info_export', nbdInfoExport],
  ['netif_tx_request', netif.tx.request],
  ['netif_rx_response', netif.rx.response],
  ['netif_extra_info', netif.extraInfo],
  ['netif_extra_gso', netif.gso],
  ['xen_netif_ctrl_request', netif.ctrl.request],
  ['fsif_create_request', fsif64.create],
  ['fsif_stat_response', fsif64.stat],
  ['fsif_request of x86_64', fsif64.request],
  ['fsif_request of x86_32', fsif32.request],
  ['xenkbd_mtouch', keyboard.structs.mtouch],
  ['signed', netstruct('signed', { a: i8, b: i64, c: i32, d: i16 })],
  ['request of x86_32', request32],
  ['discard of x86_32', discard32],
  ['indirect of x86_32', indirect32],
  ['response of x86_32', response32],
]

/** Reads a value of the given type at an offset, without the code under test. */
function readAt(view: DataView, at: number, type: CType, little: boolean): unknown {
  if (type === u8) return view.getUint8(at)
  if (type === u16) return view.getUint16(at, little)
  if (type === u32) return view.getUint32(at, little)
  if (type === i16) return view.getInt16(at, little)
  if (type === i8) return view.getInt8(at)
  if (type === i32) return view.getInt32(at, little)
  if (type instanceof Int64Schema) {
    return type.signed ? view.getBigInt64(at, little) : view.getBigUint64(at, little)
  }
  if (type instanceof CUnion) {
    return expect.objectContaining({
      bytes: new Uint8Array(
        view.buffer.slice(view.byteOffset + at, view.byteOffset + at + type.size),
      ),
    })
  }
  if (type instanceof CArraySchema) {
    return Array.from({ length: type.length }, (_, i) =>
      readAt(view, at + i * sizeOf(type.element), type.element, little),
    )
  }
  if (type instanceof CStruct) return readFields(view, at, type)
  throw new TypeError('a type without a reader')
}

const readFields = (view: DataView, at: number, struct: CStruct<Fields>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(struct.properties).map(([field, type]) => [
      field,
      readAt(view, at + (struct.at[field] ?? NaN), type, struct.endianness === 'little'),
    ]),
  )

describe.each(structs)('%s', (_name, struct) => {
  const filled = fc.uint8Array({ minLength: struct.size, maxLength: struct.size })

  test('schema.read finds each field where `at` says', () => {
    fc.assert(
      fc.property(filled, fc.nat(9), (content, offset) => {
        const bytes = new Uint8Array(offset + content.length)
        bytes.set(content, offset)
        const expected = readFields(new DataView(bytes.buffer), offset, struct)
        expect(
          struct.read(
            new BufferReader(bytes.buffer, { byteOffset: offset, endianness: struct.endianness }),
          ),
        ).toEqual(expected)
        expect(struct.decode(bytes, offset)).toEqual(expected)
      }),
    )
  })

  test('schema.write restores every byte that schema.read saw', () => {
    fc.assert(
      fc.property(filled, (content) => {
        const copy = new Uint8Array(struct.size)
        struct.write(
          new BufferWriter(copy.buffer, { endianness: struct.endianness }),
          struct.read(new BufferReader(content.buffer, { endianness: struct.endianness })),
        )
        expect(copy).toEqual(content)
        const encoded = new Uint8Array(struct.size + 3)
        struct.encode(struct.decode(content), encoded, 3)
        expect(encoded.subarray(3)).toEqual(content)
      }),
    )
  })
})

describe('cstruct', () => {
  test('requires padding to be a field', () => {
    expect(() => cstruct('hole', { a: u8, b: u32 })).toThrow('"hole.b" at 1 isn\'t aligned to 4')
    expect(() => cstruct('tail', { a: u32, b: u8 })).toThrow(
      '"tail" of 5 bytes isn\'t a multiple of its alignment 4',
    )
    expect(cstruct('full', { a: u8, _pad: padding(3), b: u32 }).at).toEqual({ a: 0, _pad: 1, b: 4 })
  })

  test('aligns a u64 to 8, and to 4 where the ABI says so', () => {
    expect(() => cstruct('x86_64', { a: u32, b: u64 })).toThrow('aligned to 8')
    expect(cstruct('x86_32', { a: u32, b: u64Align4 })).toMatchObject({ size: 12, align: 4 })
  })

  test('aligns an array like its element and a struct like its widest field', () => {
    const inner = cstruct('inner', { a: u16, b: u16, c: u32 })
    expect(inner.align).toBe(4)
    expect(() => cstruct('outer', { a: u16, list: array(inner, 2) })).toThrow('aligned to 4')
    expect(cstruct('outer', { list: array(inner, 2), b: u32 })).toMatchObject({
      size: 20,
      align: 4,
      at: { list: 0, b: 16 },
    })
  })

  test('does not access memory outside the given bytes', () => {
    const bytes = new Uint8Array(new ArrayBuffer(32), 8, 8)
    expect(() => grant_entry_v1.decode(bytes, 1)).toThrow(RangeError)
    expect(() => grant_entry_v1.decode(bytes, -1)).toThrow(RangeError)
    expect(() => grant_entry_v1.encode({ flags: 1, domid: 2, frame: 3 }, bytes, 1)).toThrow(
      RangeError,
    )
    grant_entry_v1.encode({ flags: 1, domid: 2, frame: 3 }, bytes)
    expect([...bytes]).toEqual([1, 0, 2, 0, 3, 0, 0, 0])
  })

  test('works on shared memory', () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(8))
    grant_entry_v1.encode({ flags: 1, domid: 2, frame: 0xffff_ffff }, bytes)
    expect(grant_entry_v1.decode(bytes)).toEqual({ flags: 1, domid: 2, frame: 0xffff_ffff })
  })
})

describe('netstruct', () => {
  const message = netstruct('message', { a: u8, b: u64, c: u16, d: u32 })

  test('is packed and big endian', () => {
    expect(message).toMatchObject({ size: 15, align: 1, at: { a: 0, b: 1, c: 9, d: 11 } })
    const bytes = new Uint8Array(15)
    message.encode({ a: 1, b: 0x0203_0405_0607_0809n, c: 0x0a0b, d: 0x0c0d_0e0f }, bytes)
    expect([...bytes]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    expect(message.decode(bytes)).toEqual({
      a: 1,
      b: 0x0203_0405_0607_0809n,
      c: 0x0a0b,
      d: 0x0c0d_0e0f,
    })
  })

  test("NBD's messages have the sizes that its proto.md draws", () => {
    expect([nbdRequest.size, nbdSimpleReply.size, nbdOptionReply.size, nbdInfoExport.size]).toEqual(
      [28, 16, 20, 12],
    )
  })
})

test('padding that is left out is zero, whatever was there', () => {
  const padded = cstruct('padded', { a: u8, _pad: padding(3), b: u32, _end: padding(4) })
  const bytes = new Uint8Array(16).fill(0xee)
  padded.encode({ a: 1, b: 2 }, bytes, 4)
  expect([...bytes.subarray(4)]).toEqual([1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
  padded.encode({ a: 1, b: 2, _pad: [7, 8, 9] }, bytes, 4)
  expect([...bytes.subarray(4, 8)]).toEqual([1, 7, 8, 9])
  // @ts-expect-error another field may not be left out
  padded.encode({ a: 1 }, bytes)
})

test.each([
  [{ a: u32, b: u32, c: u32 }, { a: u8 }, 12],
  [{ a: u32, b: u32, c: u32 }, { a: u64 }, 16],
  [{ a: u16 }, { a: u32 }, 4],
] satisfies [Fields, Fields, number][])('a slot holds %j and %j: %i bytes', (ask, answer, size) => {
  const messages = { request: cstruct('ask', ask), response: cstruct('answer', answer) }
  expect(ringMessages(messages)).toEqual({ ...messages, slotSize: size })
})
