/** `serveDevices`: serves devices of any type by its driver. */
import { expectHypervisor, expectInteger, type Hypervisor } from '@xenkit/hypervisor'
import { type BackendDriver, type BackendEvent, serveBackends } from '@xenkit/xenbus'
import { openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import { abandonAfter } from './abandoned.ts'

/** Longest time of a Node timer, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Options for serving devices of any type. */
export interface ServeOptions {
  /** Connection to xenstored, which may be shared and stays open. Default: opens one of its own. */
  readonly xs?: XenstoreClient
  /** Serve only devices that were plugged with this reservation. Default: devices without one. */
  readonly reservation?: string
  /** Ends the service: asks each guest to close its device, then completes requests in flight. */
  readonly signal?: AbortSignal
  /**
   * Milliseconds to wait for requests in flight once `signal` has aborted: 0..2^31-1, or Infinity.
   * After that their devices are abandoned and the service ends. The listener and the error node
   * get a `DeviceAbandonedError`. Memory that the requests use stays allocated until they complete
   * or the process ends. Default 30000, less than the 90 s after which systemd kills.
   */
  readonly abandonMs?: number
}

/** Passed to a driver's constructor function. */
export interface DriverContext {
  readonly xs: XenstoreClient
  /** Aborts when waiting for requests in flight ends. */
  readonly abandon: AbortSignal
}

/** A type of device, for `serveDevices`. */
export interface DeviceType<Driver extends BackendDriver> {
  /** Name in xenstore: `vbd` in `/local/domain/<domid>/backend/vbd`. */
  readonly type: string
  /** Backend types, which are the directories to serve. Default: `type` alone. */
  readonly backendTypes?: readonly string[]
  /** Creates the driver, once for each `serveDevices`. */
  readonly driver: (context: DriverContext) => Driver
  /** Called with each event of each device. */
  readonly onEvent: (event: BackendEvent, driver: Driver) => void
}

/**
 * Serves all devices of a type that toolstacks give to this domain, until the signal aborts;
 * without a signal, for ever.
 * @throws TypeError, RangeError if `hv` is no hypervisor, or for `abandonMs` out of range
 * @throws NotAvailableError if no xenstored answers
 * @throws XenstoreError if the connection to xenstored is lost
 */
export async function serveDevices<Driver extends BackendDriver>(
  hv: Hypervisor,
  { xs: given, signal, reservation, abandonMs = 30_000 }: ServeOptions,
  { type, backendTypes = [type], driver: makeDriver, onEvent }: DeviceType<Driver>,
): Promise<void> {
  expectHypervisor(hv)
  if (abandonMs !== Infinity) expectInteger('abandonMs', abandonMs, 0, MAX_TIMER_MS)
  const xs = given ?? (await openXenstore(hv.xenstore))
  using abandon = abandonAfter(signal, abandonMs)
  try {
    const driver = makeDriver({ xs, abandon: abandon.signal })
    await serveBackends(xs, {
      domid: hv.domid,
      type,
      backendTypes,
      driver,
      ...(signal ? { signal } : {}),
      ...(reservation === undefined ? {} : { reservation }),
      onEvent: (event) => onEvent(event, driver),
    })
  } finally {
    if (!given) xs.close()
  }
}

/**
 * Calls a program's listener. An error that it throws becomes an uncaught exception, and doesn't
 * affect the caller.
 */
export function tellListener<Event>(listener: (event: Event) => void, event: Event): void {
  try {
    listener(event)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
