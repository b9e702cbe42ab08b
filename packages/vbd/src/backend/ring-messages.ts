/**
 * What the server's thread and those that serve rings for it say to each other. Each disk has a port of its own in each thread: it is
 * sent with the orders; then `RingNews` come from there until `closed`, and `CloseOptions` go there.
 */
import type { FrontendRings } from '../nodes.ts'
import type { CrossingError } from './crossing-error.ts'
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

/** `failed` and `store-failed` as a connection tells of them. An error of `closed` is what connecting or closing threw. */
export type RingNews =
  | { readonly kind: 'connected' }
  | { readonly kind: 'failed' | 'store-failed'; readonly error: CrossingError }
  | { readonly kind: 'closed'; readonly error: CrossingError | undefined }
