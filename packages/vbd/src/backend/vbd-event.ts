/** What `onEvent` of `serveVbd` tells of a disk. */
import type { RequestedDisk } from '../requested-disk.ts'
import type { VbdStats } from './stats.ts'

/** A disk that is being served. */
export interface ServedDisk extends RequestedDisk {
  readonly stats: VbdStats
}

/** A change or failure of a served disk, as `onEvent` of `serveVbd` gets it. */
export type VbdEvent =
  /** `changed`: it has another medium, or size. */
  | {
      readonly kind: 'offered' | 'connected' | 'changed' | 'closed' | 'removed'
      readonly disk: ServedDisk
      readonly error?: undefined
    }
  /**
   * The disk failed and is being closed; the store failed a request, after one that it did not; the
   * disk is left to other backends, since the store is in use; another medium or size that a
   * toolstack asked for can't be had, and the disk stays as it is.
   */
  | {
      readonly kind: 'failed' | 'store-failed' | 'declined' | 'refused'
      readonly disk: ServedDisk
      readonly error: unknown
    }
