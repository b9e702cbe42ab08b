/**
 * The C types of Xen's public headers, as typed-binary schemas. typed-binary knows sizes, but
 * neither alignment nor 64-bit integers. Arrays, structs, unions and 64-bit integers therefore
 * carry their alignment. Other integers are aligned to their size, as in every ABI that Xen runs
 * on.
 */
import { ArraySchema, MaxValue, Measurer, Schema, i16, i32, i8, u16, u32, u8 } from 'typed-binary'
import type {
  AnySchema,
  IMeasurer,
  ISerialInput,
  ISerialOutput,
  Int16Schema,
  Int32Schema,
  Int8Schema,
  Uint16Schema,
  Uint32Schema,
  Uint8Schema,
} from 'typed-binary'

/** A schema that states its alignment. Plain integers don't: they are aligned to their size. */
export interface Aligned extends AnySchema {
  readonly align: number
}

/** Schemas that a field of a `CStruct` or a member of a `CUnion` may have. */
export type CType =
  | Uint8Schema
  | Uint16Schema
  | Uint32Schema
  | Int8Schema
  | Int16Schema
  | Int32Schema
  | Aligned

/** Bytes of a type (C's sizeof). */
export const sizeOf = (type: CType): number => type.measure(MaxValue).size
/** Alignment of a type, bytes. */
export const alignOf = (type: CType): number => ('align' in type ? type.align : sizeOf(type))

/** A 64-bit integer, as a bigint. */
export class Int64Schema extends Schema<bigint> implements Aligned {
  readonly align: 4 | 8
  readonly signed: boolean

  constructor(o: { readonly align: 4 | 8; readonly signed: boolean }) {
    super()
    this.align = o.align
    this.signed = o.signed
  }

  override read(input: ISerialInput): bigint {
    const first = BigInt(input.readUint32())
    const second = BigInt(input.readUint32())
    const value = input.endianness === 'big' ? (first << 32n) | second : first | (second << 32n)
    return this.signed ? BigInt.asIntN(64, value) : value
  }

  /** Writes the low 64 bits of `value`. */
  override write(output: ISerialOutput, value: bigint): void {
    const [low, high] = [Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn)]
    const big = output.endianness === 'big'
    output.writeUint32(big ? high : low)
    output.writeUint32(big ? low : high)
  }

  override measure(
    _value: bigint | typeof MaxValue,
    measurer: IMeasurer = new Measurer(),
  ): IMeasurer {
    return measurer.add(8)
  }
}

/** An array of fixed length. */
export class CArraySchema<T extends CType> extends ArraySchema<T> implements Aligned {
  readonly align: number
  readonly element: T

  constructor(element: T, length: number) {
    super(element, length)
    this.element = element
    this.align = alignOf(element)
  }
}

/** uint64_t in the ABIs x86_64 and arm. */
export const u64 = new Int64Schema({ align: 8, signed: false })
/** int64_t in the ABIs x86_64 and arm. */
export const i64 = new Int64Schema({ align: 8, signed: true })
/** uint64_t within a struct in the ABI x86_32: i386 System V aligns it to 4. */
export const u64Align4 = new Int64Schema({ align: 4, signed: false })
/** int64_t within a struct in the ABI x86_32: i386 System V aligns it to 4. */
export const i64Align4 = new Int64Schema({ align: 4, signed: true })

/** An array of `length` elements. */
export const array = <T extends CType>(element: T, length: number): CArraySchema<T> =>
  new CArraySchema(element, length)

/** Bytes that a C compiler leaves unused; `CStruct.encode` writes zeros unless told otherwise. */
export class CPaddingSchema extends CArraySchema<Uint8Schema> {
  /** Distinguishes the type from that of an array of bytes. */
  readonly isPadding = true

  constructor(bytes: number) {
    super(u8, bytes)
  }
}

/**
 * Bytes that a C compiler leaves unused. They are fields, so that no layout has an implicit hole.
 */
export const padding = (bytes: number): CPaddingSchema => new CPaddingSchema(bytes)

export { i16, i32, i8, u16, u32, u8 }
