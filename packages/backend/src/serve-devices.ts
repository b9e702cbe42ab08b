/** `serveDevices`: the part of serving devices of a type that is the same for every type. */
import { expectHypervisor, expectInteger, type Hypervisor } from '@xenkit/hypervisor'
import { type BackendDriver, type BackendEvent, serveBackends } from '@xenkit/xenbus'
import { openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import { abandonAfter } from './abandoned.ts'

/** The longest that a timer runs. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** What the user of any type of device may say. */
export interface ServeOptions {
  /** Connection to xenstored, shared with others and left open. Default: one of its own. */
  readonly xs?: XenstoreClient
  /**
   * Serve only devices that were plugged with this reservation. By default: only those without one.
   */
  readonly reservation?: string
  /**
   * Ends the service: each guest is asked to close its device, then requests in flight are settled.
   */
  readonly signal?: AbortSignal
  /**
   * Milliseconds that requests may stay in flight once `signal` has aborted, 0..2^31-1; Infinity is
   * allowed. After that the device is abandoned: the service ends, the listener and the error node
   * hear of a `DeviceAbandonedError`, and memory that the requests use stays until they complete or
   * the process ends. Default 30000, less than the 90 s after which systemd kills.
   */
  readonly abandonMs?: number
}

/** What a driver is made with. */
export interface DriverContext {
  readonly xs: XenstoreClient
  /** Aborts when requests in flight are waited for no longer. */
  readonly abandon: AbortSignal
}

/** A type of device, as `serveDevices` serves it. */
export interface DeviceType<Driver extends BackendDriver> {
  /** As in `/local/domain/<domid>/backend/<type>`. */
  readonly type: string
  /** Names of the type among the backends: see `ServeBackendsOptions`. */
  readonly backendTypes?: readonly string[]
  readonly driver: (context: DriverContext) => Driver
  readonly onEvent: (event: BackendEvent, driver: Driver) => void
}

/**
 * Serves devices until the signal aborts; without a signal, for ever.
 * @throws TypeError, RangeError for what is no hypervisor, and for `abandonMs` out of range
 * @throws NotAvailableError when no xenstored answers
 * @throws XenstoreError when the connection to it is lost
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

/** Calls a user's listener. What it throws is uncaught, and no concern of what it is told of. */
export function tellListener<Event>(listener: (event: Event) => void, event: Event): void {
  try {
    listener(event)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
