/** What `xenkit disk attach` and `xenkit net attach` have in common. */
import { randomUUID } from 'node:crypto'
import { DeviceAbandonedError } from '@xenkit/backend'
import type { XenstoreClient } from '@xenkit/xenstore-client'
import { interrupted } from './interrupted.ts'

/** Milliseconds for xenstored to remove the device's nodes, after the device has closed. */
const UNPLUG_TIMEOUT_MS = 1_000

/** What a command has to know of an event. */
interface DeviceEvent {
  readonly kind: string
  readonly error?: unknown
}

/** A device to plug and to serve. */
export interface AttachSteps {
  readonly xs: XenstoreClient
  /** The guest. */
  readonly domid: number
  /** Serves the device with this reservation until the signal aborts. */
  serve(o: {
    readonly reservation: string
    readonly signal: AbortSignal
    readonly onEvent: (event: DeviceEvent) => void
  }): Promise<void>
  plug(reservation: string): Promise<void>
  unplug(o: { readonly signal: AbortSignal }): Promise<void>
}

/**
 * Plugs a device into a running domain and serves it, until it is unplugged or the command is
 * interrupted. An interrupted command unplugs it. The exit code is 1 if the device has failed.
 */
export async function attach({ xs, domid, serve, plug, unplug }: AttachSteps): Promise<void> {
  const reservation = randomUUID()
  const stop = new AbortController()
  const signal = AbortSignal.any([interrupted(), stop.signal])
  let failure: unknown
  const onEvent = ({ kind, error }: DeviceEvent): void => {
    if (kind === 'failed') failure = error
    if (kind === 'removed') stop.abort()
    // If the domain is gone, the device won't reconnect, and no toolstack removes a device that
    // this command plugged.
    if (kind === 'closed') {
      void xs.isDomainIntroduced(domid).then(
        (exists) => exists || stop.abort(),
        () => stop.abort(),
      )
    }
  }
  const serving = serve({ reservation, signal, onEvent })
  // `serving` is awaited below; until then this prevents an unhandled rejection.
  serving.catch(() => {})
  try {
    await plug(reservation)
  } catch (error) {
    stop.abort()
    await serving
    throw error
  }
  // Unplug the device only if this command has plugged it.
  try {
    await serving
  } finally {
    await unplug({ signal: AbortSignal.timeout(UNPLUG_TIMEOUT_MS) })
  }
  // The error was printed when it happened.
  if (failure !== undefined) process.exitCode = 1
}

/** Notes whether a device was abandoned: it still has requests that may never end. */
export class Abandoned {
  #any = false

  note({ error }: DeviceEvent): void {
    this.#any ||= error instanceof DeviceAbandonedError
  }

  /** Exits at once if a device was abandoned: closing what it used would wait for ever. */
  exitIfAny(): void {
    if (this.#any) process.exit(1)
  }
}
