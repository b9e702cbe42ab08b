/**
 * Makes a guest's discard in as many store calls as the store wants.
 *
 * Costs differ: a disk in memory writes zeroes, others forget a range of any length at once. So a
 * store says how much takes as long as the largest read: `discardLimits.maximum`. One call discards
 * that much at most and is charged to the guest's turn; the next waits for a turn that has room.
 */
import { type BlockStore, discardLimitsOf, isPromise } from '@xenkit/block-store'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { GuestTurn } from '@xenkit/hypervisor'

export interface SectorRange {
  readonly sector: number
  /** Sector behind the last one. */
  readonly end: number
}

export interface DiscardInTurns extends SectorRange {
  readonly store: BlockStore
  readonly secure: boolean
  readonly guestTurn: Pick<GuestTurn, 'left' | 'spend' | 'wait'>
  /** Whether the ring takes no more: nobody waits for the rest of a discard, which is left out. */
  readonly stopped: () => boolean
}

/** @returns whether all of it was discarded */
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

/** The granules that lie in a range. The last one may be cut short by the end of the disk. */
export function wholeGranules(store: BlockStore, { sector, end }: SectorRange): SectorRange {
  const { granularity, alignment } = discardLimitsOf(store)
  const [granule, offset] = [granularity / 512, (alignment % granularity) / 512]
  return {
    sector: Math.ceil((sector - offset) / granule) * granule + offset,
    end: end === store.sectors ? end : Math.floor((end - offset) / granule) * granule + offset,
  }
}
