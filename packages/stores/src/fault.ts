/**
 * A store that goes wrong on purpose: what a guest makes of a bad disk, and a backend of a bad
 * store.
 */
import { UINT32_MAX, expectInteger } from '@xenkit/hypervisor'
import type { BlockStore } from '@xenkit/block-store'
import { slice } from './buffers.ts'
import { type StoreCall, aroundStore, isWritable, whole } from './layer.ts'

export type { StoreCall } from './layer.ts'

/** What happens to one call; of several things all do. */
export interface Fault {
  /** The call begins that much later. */
  readonly delayMs?: number
  /**
   * A write reaches the store up to this byte only, less what is no whole sector; with no `error`,
   * nobody is told.
   */
  readonly tornAt?: number
  /** One bit of what is read is the other way round; it lies right in the store. */
  readonly flippedBit?: number
  /**
   * The call fails. A write does so after it was made, as far as `tornAt`; other calls aren't made
   * at all.
   */
  readonly error?: Error
}

/** @param plan asked for each call, in their order: what happens to it, or nothing */
export function faultyStore(
  base: BlockStore,
  plan: (call: StoreCall) => Fault | undefined,
): BlockStore {
  return aroundStore(base, async (call, run) => {
    const { delayMs, tornAt, flippedBit, error } = plan(call) ?? {}
    if (delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, delayMs))
    if (call.kind === 'write' && isWritable(base)) {
      const sectorSize = base.sectorSize ?? 512
      const length =
        tornAt === undefined ? call.bytes : Math.min(call.bytes, tornAt - (tornAt % sectorSize))
      if (length > 0) await whole(base.write(call.sector, slice(call.buffers, 0, length)), length)
      if (error) throw error
      return
    }
    if (error) throw error
    await run()
    if (call.kind === 'read' && flippedBit !== undefined) {
      flip(call.buffers, flippedBit % (call.bytes * 8))
    }
  })
}

function flip(buffers: readonly Uint8Array[], bit: number): void {
  const [byte] = slice(buffers, bit >> 3, 1)
  if (byte?.[0] !== undefined) byte[0] ^= 1 << (bit & 7)
}

export interface FaultOdds {
  /** The same seed and calls have the same faults. 1..2^32-1 */
  readonly seed: number
  /** Odds, 0..1 and default 0, that a call fails, */
  readonly errors?: number
  /** that a write ends somewhere and fails, */
  readonly tornWrites?: number
  /** that a read has a wrong bit, */
  readonly flippedBits?: number
  /** and that a call is late, by up to `longestDelayMs`. */
  readonly delays?: number
  /** Default 100. */
  readonly longestDelayMs?: number
}

/**
 * A plan of faults by chance.
 * @throws RangeError for odds outside 0..1, or seed 0
 */
export function randomFaults({
  seed,
  longestDelayMs = 100,
  ...o
}: FaultOdds): (call: StoreCall) => Fault | undefined {
  expectInteger('seed', seed, 1, UINT32_MAX)
  for (const [name, value] of Object.entries(o)) {
    if (!(value >= 0 && value <= 1)) {
      throw new RangeError(`"${name}" expected odds 0..1, got ${value}`)
    }
  }
  const random = xorshift(seed)
  return (call) => {
    // Always as many numbers, so that one kind of fault doesn't change when another happens.
    const [late, failing, torn, flipped, size] = [random(), random(), random(), random(), random()]
    const isTorn = call.kind === 'write' && torn < (o.tornWrites ?? 0)
    return {
      ...(late < (o.delays ?? 0) ? { delayMs: size * longestDelayMs } : {}),
      ...(isTorn ? { tornAt: Math.floor(size * call.bytes) } : {}),
      ...(call.kind === 'read' && flipped < (o.flippedBits ?? 0)
        ? { flippedBit: Math.floor(size * call.bytes * 8) }
        : {}),
      ...(isTorn || failing < (o.errors ?? 0)
        ? {
            error: new Error(
              `${call.kind} of ${call.bytes} bytes at sector ${call.sector} fails by chance, seed ${seed}`,
            ),
          }
        : {}),
    }
  }
}

/** Marsaglia's xorshift32, as fractions of 1. */
function xorshift(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}
