/** Readers and writers, in typed-binary's form, of a struct or union in memory. */
import { BufferReader, BufferWriter } from 'typed-binary'
import type { Endianness } from 'typed-binary'

interface Layout {
  readonly name: string
  readonly size: number
  readonly endianness: Endianness
}

/**
 * Returns a reader at `offset` of `bytes`.
 * @throws RangeError if the layout doesn't lie within `bytes`
 */
export const readerAt = (layout: Layout, bytes: Uint8Array, offset: number): BufferReader =>
  new BufferReader(bytes.buffer, within(layout, bytes, offset))

/**
 * Returns a writer at `offset` of `bytes`.
 * @throws RangeError if the layout doesn't lie within `bytes`
 */
export const writerAt = (layout: Layout, bytes: Uint8Array, offset: number): BufferWriter =>
  new BufferWriter(bytes.buffer, within(layout, bytes, offset))

function within({ name, size, endianness }: Layout, bytes: Uint8Array, offset: number) {
  if (offset < 0 || offset + size > bytes.byteLength) {
    throw new RangeError(
      `"${name}" of ${size} bytes at ${offset} doesn't fit into ${bytes.byteLength} bytes`,
    )
  }
  return { byteOffset: bytes.byteOffset + offset, endianness }
}
