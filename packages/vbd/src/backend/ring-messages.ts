/**
 * What the server's thread and those that serve rings for it say to each other. Each disk has a
 * port of its own in each thread, which is sent with the orders. `RingNews` come from there until
 * `closed`; `CloseOptions` or `Abandon` go there.
 */
import type { FrontendRings } from '../nodes.ts'
import type { CrossingError } from '@xenkit/backend'
import type { DataPathKind } from './data-path.ts'
import type { SharedLimits } from './limits.ts'

export type Port = InstanceType<typeof MessagePort>

export interface RingOrders {
  readonly port: Port
  readonly domid: number
  /** Those of the frontend's rings that the thread serves. */
  readonly frontend: FrontendRings
  readonly store: { readonly module: string; readonly data: unknown }
  readonly limits: SharedLimits
  readonly dataPath: DataPathKind
  /** See `VbdCounters`. */
  readonly numbers: Float64Array
}

/** The store is waited for no longer, and why. Rings that are still open are closed. */
export interface Abandon {
  readonly abandon: CrossingError
}

/**
 * `failed` and `store-failed` as a connection tells of them. `abandoned`: the rings are closed, and
 * `closed` follows when the store has answered. An error of `closed` is what connecting or closing
 * threw.
 */
export type RingNews =
  | { readonly kind: 'connected' }
  | { readonly kind: 'failed' | 'store-failed' | 'abandoned'; readonly error: CrossingError }
  | { readonly kind: 'closed'; readonly error: CrossingError | undefined }
