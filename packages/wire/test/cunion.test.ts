import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  array,
  cstruct,
  cunion,
  i16,
  i32,
  i64,
  i64Align4,
  i8,
  padding,
  u64,
  u8,
} from '../src/index.ts'

const pair = cstruct('pair', { low: i32, high: i32 })
const numbers = cunion('numbers', { pair, wide: i64, bytes: array(u8, 9), small: i8, short: i16 })
const tagged = cstruct('tagged', { tag: u8, _pad: padding(7), u: numbers })
const signs = cunion('signs', { unsigned: u64, signed: i64 })

const i32s = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
const content = fc.uint8Array({ minLength: numbers.size, maxLength: numbers.size })

test('a union has the size of its largest member, rounded up to its alignment', () => {
  expect(numbers).toMatchObject({ size: 16, align: 8 })
  expect(tagged).toMatchObject({ size: 24, align: 8, at: { u: 8 } })
  expect(cunion('x86_32', { wide: i64Align4, bytes: array(u8, 9) })).toMatchObject({
    size: 12,
    align: 4,
  })
  expect(cunion('nested', { numbers, byte: u8 })).toMatchObject({ size: 16, align: 8 })
  expect(() => cstruct('outer', { tag: u8, u: numbers })).toThrow('aligned to 8')
})

test('a decoded union can be read as any member, from its first byte', () => {
  fc.assert(
    fc.property(content, fc.nat(9), (bytes, offset) => {
      const memory = new Uint8Array(offset + bytes.length)
      memory.set(bytes, offset)
      const value = numbers.decode(memory, offset)
      const view = new DataView(bytes.buffer)
      expect(value.bytes).toEqual(bytes)
      expect(value.as('pair')).toEqual({
        low: view.getInt32(0, true),
        high: view.getInt32(4, true),
      })
      expect(value.as('wide')).toBe(view.getBigInt64(0, true))
      expect(value.as('bytes')).toEqual([...bytes.subarray(0, 9)])
      expect(value.as('small')).toBe(view.getInt8(0))
      expect(value.as('short')).toBe(view.getInt16(0, true))
    }),
  )
})

test("a member that was set can be read again, and the union's other bytes are 0", () => {
  fc.assert(
    fc.property(i32s, i32s, content, (low, high, before) => {
      const value = numbers.of('pair', { low, high })
      numbers.encode(value, before)
      expect(numbers.decode(before).as('pair')).toEqual({ low, high })
      expect([...before.subarray(pair.size)]).toEqual(Array(numbers.size - pair.size).fill(0))
    }),
  )
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (wide) => {
      expect(numbers.of('wide', wide).as('wide')).toBe(wide)
      expect(signs.of('signed', wide).as('unsigned')).toBe(BigInt.asUintN(64, wide))
    }),
  )
})

test('a union within a struct changes only its own bytes', () => {
  const bytes = new Uint8Array(tagged.size).fill(0xff)
  tagged.encode({ tag: 3, _pad: [0, 0, 0, 0, 0, 0, 0], u: numbers.of('short', -2) }, bytes)
  expect([...bytes]).toEqual([3, ...Array(7).fill(0), 0xfe, 0xff, ...Array(14).fill(0)])
  expect(tagged.decode(bytes).u.as('short')).toBe(-2)
})

test('a decoded union is a copy: the peer can not change it', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(numbers.size))
  const value = numbers.decode(shared)
  shared.fill(1)
  expect(value.as('wide')).toBe(0n)
})

test('does not access memory outside the given bytes', () => {
  const bytes = new Uint8Array(new ArrayBuffer(32), 8, numbers.size)
  expect(() => numbers.decode(bytes, 1)).toThrow(
    new RangeError('"numbers" of 16 bytes at 1 doesn\'t fit into 16 bytes'),
  )
  expect(() => numbers.encode(numbers.of('small', 1), bytes, -1)).toThrow(RangeError)
})
