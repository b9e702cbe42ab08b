/** Events of a disk, for `onEvent` of `serveVbd`. */
import type { RequestedDisk } from '../requested-disk.ts'
import type { VbdStats } from './stats.ts'

/** A disk that is being served, with its statistics. */
export interface ServedDisk extends RequestedDisk {
  readonly stats: VbdStats
}

/**
 * An event of a disk that `serveVbd` serves.
 *
 * - `offered`: the disk waits for its frontend.
 * - `connected`: its frontend uses it. `closed`: it no longer does.
 * - `changed`: it has another medium or size.
 * - `removed`: it is gone for good.
 * - `failed`: it failed and is being closed.
 * - `store-failed`: the store failed a request, for the first time since one succeeded.
 * - `declined`: it is left to other backends, since its store is in use or `store` doesn't answer.
 * - `refused`: it can't take the medium or size that a toolstack asked for, and stays as it is.
 */
export type VbdEvent =
  | {
      readonly kind: 'offered' | 'connected' | 'changed' | 'closed' | 'removed'
      readonly disk: ServedDisk
      readonly error?: undefined
    }
  | {
      readonly kind: 'failed' | 'store-failed' | 'declined' | 'refused'
      readonly disk: ServedDisk
      readonly error: unknown
    }
