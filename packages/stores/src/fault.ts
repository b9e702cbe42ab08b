/**
 * A store that fails on purpose, to test guests with a bad disk and backends with a bad store.
 */
import { expectOdds, randomNumbers } from '@xenkit/hypervisor'
import type { BlockStore } from '@xenkit/block-store'
import { slice } from './buffers.ts'
import { type StoreCall, aroundStore, isWritable, whole } from './layer.ts'

export type { StoreCall } from './layer.ts'

/** Faults of one call. If several are given, all of them happen. */
export interface Fault {
  /** Milliseconds by which the call starts late. */
  readonly delayMs?: number
  /**
   * Bytes of a write that reach the store, rounded down to whole sectors. The write still succeeds
   * unless there is an `error`.
   */
  readonly tornAt?: number
  /** Number of a bit that a read returns inverted. The store's own content stays right. */
  readonly flippedBit?: number
  /**
   * Error that the call fails with. A write first reaches the store, up to `tornAt`; other calls
   * don't reach it.
   */
  readonly error?: Error
}

/**
 * Lets calls of a store fail as planned.
 * @param plan called for each call, in order: returns its faults, or undefined for none
 */
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

/** Odds of the faults that `randomFaults` plans, each 0..1 and 0 by default. */
export interface FaultOdds {
  /** 1..2^32-1. The same seed and calls get the same faults. */
  readonly seed: number
  /** Odds that a call fails. */
  readonly errors?: number
  /** Odds that a write stops somewhere and fails. */
  readonly tornWrites?: number
  /** Odds that a read has a wrong bit. */
  readonly flippedBits?: number
  /** Odds that a call starts late, by up to `longestDelayMs`. */
  readonly delays?: number
  /** Longest delay of a call in milliseconds, default 100. */
  readonly longestDelayMs?: number
}

/**
 * Plans random faults, for `faultyStore`.
 * @throws RangeError for odds outside 0..1, or seed 0
 */
export function randomFaults({
  seed,
  longestDelayMs = 100,
  ...o
}: FaultOdds): (call: StoreCall) => Fault | undefined {
  expectOdds({ ...o })
  const random = randomNumbers(seed)
  return (call) => {
    // Each call draws five numbers, so that the odds of one fault don't move another.
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
