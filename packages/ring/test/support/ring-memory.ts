/** Rings for tests: formatted memory at any index, and messages that can be distinguished. */
import * as fc from 'fast-check'
import { sring } from '@xenkit/wire'
import type { BackRing, FrontRing, RingMemory } from '../../src/index.ts'

/**
 * Start indices: where signed and unsigned arithmetic differ, where a u32 wraps around, and others.
 */
export const anyIndex = fc.oneof(
  fc.constantFrom(
    0,
    1,
    2 ** 31 - 2,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 31 + 1,
    2 ** 31 + 2,
    2 ** 32 - 2,
    2 ** 32 - 1,
  ),
  fc.integer({ min: 2 ** 32 - 70, max: 2 ** 32 - 1 }),
  fc.integer({ min: 2 ** 31 - 70, max: 2 ** 31 + 70 }),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
)

/**
 * Rings of 1, 2 or 4 pages, and slot sizes: both of blkif, netif's, one u32, the largest possible.
 * Some are whole 64-bit words, others aren't.
 */
export const anyGeometry = fc.record({
  pages: fc.constantFrom(1, 2, 4),
  slotSize: fc.constantFrom(112, 108, 12, 16, 4, 8, 1000, 4032),
})

/**
 * Memory of an empty ring with both producers at `index`. Its buffer has a page before and after.
 */
export function ringMemory({ pages = 1, slotSize = 112, index = 0 } = {}): RingMemory {
  const bytes = new Uint8Array(new SharedArrayBuffer((pages + 2) * 4096), 4096, pages * 4096)
  setIndices(bytes, {
    req_prod: index,
    req_event: index + 1,
    rsp_prod: index,
    rsp_event: index + 1,
  })
  return { bytes, slotSize }
}

export type IndexName = 'req_prod' | 'req_event' | 'rsp_prod' | 'rsp_event'

export function setIndices(bytes: Uint8Array, indices: Partial<Record<IndexName, number>>): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  for (const [name, value] of Object.entries(indices)) {
    view.setUint32(sring.at[name as IndexName], value, true)
  }
}

/** Fills a slot with a message that is unique to this tag. */
export function writeMessage({ bytes, slotSize }: RingMemory, at: number, tag: number): void {
  for (let i = 0; i < slotSize; i++) bytes[at + i] = byteOf(tag, i)
}

/**
 * Returns the tag of a drained message.
 * @throws if any byte belongs to another message
 */
export function readMessage(ring: BackRing | FrontRing, i: number): number {
  const message = new Uint8Array(ring.image, ring.messageAt(i), ring.slotSize)
  const tag = new DataView(ring.image, ring.messageAt(i)).getUint32(0, true)
  const wrong = message.findIndex((byte, at) => byte !== byteOf(tag, at))
  if (wrong !== -1) {
    throw new Error(`byte ${wrong} of message ${i}, tag ${tag}, is ${message[wrong]}`)
  }
  return tag
}

/**
 * Byte `i` of the message with this tag. Bytes 0..3 are the tag, the others depend on it.
 * ring-peer.c has the same function.
 */
const byteOf = (tag: number, i: number): number =>
  i < 4 ? (tag >>> (8 * i)) & 0xff : (tag * 31 + i * 7) & 0xff
