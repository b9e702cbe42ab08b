/**
 * Splits a guest's discard into store calls of limited size.
 *
 * The cost depends on the store: one in memory writes zeroes, others drop any range at once. So the
 * store's `discardLimits.maximum` says how many bytes take as long as the largest read. One call
 * discards at most that much, and is charged to the guest's turn. The next call waits for a turn
 * with enough budget.
 */
import { type BlockStore, discardLimitsOf, isPromise } from '@xenkit/block-store'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { GuestTurn } from '@xenkit/hypervisor'

export interface SectorRange {
  readonly sector: number
  /** Exclusive: the first sector after the range. */
  readonly end: number
}

export interface DiscardInTurns extends SectorRange {
  readonly store: BlockStore
  readonly secure: boolean
  readonly guestTurn: Pick<GuestTurn, 'left' | 'spend' | 'wait'>
  /** Whether the ring takes no more requests. The rest of the discard is then skipped. */
  readonly stopped: () => boolean
}

/**
 * Discards a range in turns.
 * @returns whether the whole range was discarded
 * @throws what the store's `discard` throws or rejects with
 */
export function discardInTurns({
  store,
  sector,
  end,
  secure,
  guestTurn,
  stopped,
}: DiscardInTurns): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let at = sector
    const step = (): void => {
      try {
        while (at < end && !stopped()) {
          const { granularity, maximum } = discardLimitsOf(store)
          const most = (Math.max(1, Math.floor(maximum / granularity)) * granularity) / 512
          const count = Math.min(most, end - at)
          const work = Math.ceil((count / most) * MAX_SEGMENTS)
          if (work > guestTurn.left) return guestTurn.wait(step)
          guestTurn.spend(work)
          const result: unknown = store.discard?.(at, count, { secure })
          at += count
          if (isPromise(result)) return void Promise.resolve(result).then(step, reject)
        }
        resolve(at >= end)
      } catch (error) {
        reject(error)
      }
    }
    step()
  })
}

/**
 * Shrinks a range to the whole granules in it. At the disk's end a partial granule counts as whole.
 */
export function wholeGranules(store: BlockStore, { sector, end }: SectorRange): SectorRange {
  const { granularity, alignment } = discardLimitsOf(store)
  const [granule, offset] = [granularity / 512, (alignment % granularity) / 512]
  return {
    sector: Math.ceil((sector - offset) / granule) * granule + offset,
    end: end === store.sectors ? end : Math.floor((end - offset) / granule) * granule + offset,
  }
}
