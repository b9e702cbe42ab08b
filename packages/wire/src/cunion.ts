/**
 * A C union: several members, each at offset 0. Another field of the struct says which member is
 * valid. A union's value is therefore its bytes, and the reader picks the member.
 */
import { BufferReader, BufferWriter, MaxValue, Measurer, Schema } from 'typed-binary'
import type { IMeasurer, ISchema, ISerialInput, ISerialOutput, Parsed } from 'typed-binary'
import { alignOf, sizeOf } from './ctypes.ts'
import type { Aligned, CType } from './ctypes.ts'
import { readerAt, writerAt } from './layout.ts'

/** A union's members: name -> type. `V` maps each name to the type of the member's value. */
export type Members<V> = { readonly [K in keyof V]: ISchema<V[K]> & CType }

/** A union's value: a private copy of its bytes. `CUnion.of` and decoding create one. */
export class UnionValue<V> {
  readonly bytes: Uint8Array
  readonly #members: Members<V>

  /** @param bytes all bytes of the union */
  constructor(members: Members<V>, bytes: Uint8Array) {
    this.bytes = bytes
    this.#members = members
  }

  /** Reads the bytes as one of the members. */
  as<K extends keyof V>(member: K): Parsed<V[K]> {
    const reader = new BufferReader(this.bytes.buffer, {
      byteOffset: this.bytes.byteOffset,
      endianness: 'little',
    })
    return this.#members[member].read(reader)
  }
}

/**
 * Schema of one union; `cunion` creates one. A union is little endian, so a `netstruct` can't
 * contain it.
 */
export class CUnion<V> extends Schema<UnionValue<V>> implements Aligned {
  /** The union's tag in C. */
  readonly name: string
  /** Bytes of the union (C's sizeof): the largest member's size, rounded up to `align`. */
  readonly size: number
  /** The largest alignment of a member. */
  readonly align: number
  readonly endianness = 'little'
  readonly #members: Members<V>

  constructor(name: string, members: Members<V>) {
    super()
    const types = Object.values<CType>(members)
    this.name = name
    this.#members = members
    this.align = Math.max(...types.map(alignOf))
    this.size = Math.ceil(Math.max(...types.map(sizeOf)) / this.align) * this.align
  }

  /** Creates a value from one member. The union's other bytes are 0. */
  of<K extends keyof V>(member: K, value: Parsed<V[K]>): UnionValue<V> {
    const bytes = new Uint8Array(this.size)
    this.#members[member].write(new BufferWriter(bytes.buffer, { endianness: 'little' }), value)
    return new UnionValue(this.#members, bytes)
  }

  /**
   * Reads the union at `offset` of `bytes`.
   * @throws RangeError if the union doesn't lie within `bytes`
   */
  decode(bytes: Uint8Array, offset = 0): UnionValue<V> {
    return this.read(readerAt(this, bytes, offset))
  }

  /**
   * Writes the union at `offset` of `bytes`.
   * @throws RangeError if the union doesn't lie within `bytes`
   */
  encode(value: UnionValue<V>, bytes: Uint8Array, offset = 0): void {
    this.write(writerAt(this, bytes, offset), value)
  }

  override read(input: ISerialInput): UnionValue<V> {
    const bytes = new Uint8Array(this.size)
    input.readSlice(bytes, 0, this.size)
    return new UnionValue(this.#members, bytes)
  }

  override write(output: ISerialOutput, { bytes }: UnionValue<V>): void {
    output.writeSlice(bytes)
  }

  override measure(
    _value: UnionValue<V> | typeof MaxValue,
    measurer: IMeasurer = new Measurer(),
  ): IMeasurer {
    return measurer.add(this.size)
  }
}

/**
 * Defines a C union by its members: little endian, aligned as by a C compiler.
 * @example
 * const u = cunion('u', { pos: cstruct('pos', { x: i32, y: i32 }), orientation: i16 })
 * const event = cstruct('event', { type: u8, _pad: padding(3), u })
 * event.decode(bytes).u.as('pos').x
 * event.encode({ type: 1, _pad: [0, 0, 0], u: u.of('orientation', -90) }, bytes)
 */
export const cunion = <V>(name: string, members: Members<V>): CUnion<V> => new CUnion(name, members)
