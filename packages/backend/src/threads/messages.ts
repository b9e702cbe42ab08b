/**
 * Messages between the server's thread and the workers that serve rings for it. The rings of a
 * device that one worker serves have a port of their own, which is sent with the orders. `RingNews`
 * comes from there until `closed`; `CloseOptions` or `Abandon` go there.
 */
import type { CrossingError } from './crossing-error.ts'

/** A port between threads: one end of a MessageChannel. */
export type Port = InstanceType<typeof MessagePort>

/** @template Config what the host is given: the message's receiver has to know it */
export interface RingOrders<Config> {
  readonly port: Port
  /** Name of the `RingHost` that connects the rings. */
  readonly host: string
  readonly config: Config
}

/** Rows in flight are waited for no longer, and why. Rings that are still open are closed. */
export interface Abandon {
  readonly abandon: CrossingError
}

/**
 * `failed`: the device has to be closed. `told`: what the host tells of. `abandoned`: the rings are
 * closed, and `closed` follows once no row is in flight. An error of `closed` is what connecting or
 * closing threw.
 */
export type RingNews<News> =
  | { readonly kind: 'connected' }
  | { readonly kind: 'told'; readonly news: News }
  | { readonly kind: 'failed' | 'abandoned'; readonly error: CrossingError }
  | { readonly kind: 'closed'; readonly error: CrossingError | undefined }
