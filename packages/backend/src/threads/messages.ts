/**
 * Messages between the server's thread and its workers. For each device, the rings that one worker
 * serves have a port of their own, sent with `RingOrders`. The worker sends `RingNews` there, up to
 * `closed`. The server's thread sends `CloseOptions` or `Abandon`.
 */
import type { CrossingError } from './crossing-error.ts'

/** A port between threads: one end of a MessageChannel. */
export type Port = InstanceType<typeof MessagePort>

/** Orders a worker to serve rings. @template Config type of the host's configuration */
export interface RingOrders<Config> {
  readonly port: Port
  /** Name of the `RingHost` that connects the rings. */
  readonly host: string
  readonly config: Config
}

/** Orders a worker to stop waiting for rows in flight, and to close rings that are still open. */
export interface Abandon {
  readonly abandon: CrossingError
}

/**
 * Messages of a worker about rings. `told`: a message of the host. `failed`: the device has to be
 * closed. `abandoned`: the rings are closed; `closed` follows once no row is in flight. `closed`
 * has an error if connecting or closing failed.
 */
export type RingNews<News> =
  | { readonly kind: 'connected' }
  | { readonly kind: 'told'; readonly news: News }
  | { readonly kind: 'failed' | 'abandoned'; readonly error: CrossingError }
  | { readonly kind: 'closed'; readonly error: CrossingError | undefined }
