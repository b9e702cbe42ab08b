/** Ends the wait for requests in flight that don't complete after a service has ended. */
import { type ErrorDetails, XenError } from '@xenkit/hypervisor'

/**
 * Requests of a device were still in flight when waiting for them ended, because a store had not
 * answered, say. They are never answered. Their rings are unmapped and their ports unbound. Memory
 * that they use is neither unmapped nor reused until they complete or the process ends.
 */
export class DeviceAbandonedError extends XenError {
  /** @param details given for an error that came from another thread */
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_XEN_DEVICE_ABANDONED', message, details)
  }
}

/**
 * Makes a signal that aborts with a `DeviceAbandonedError`, `ms` milliseconds after `end` has
 * aborted. Disposing of it cancels that.
 * @param ms 0..2^31-1, or Infinity for never
 */
export function abandonAfter(
  end: AbortSignal | undefined,
  ms: number,
): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  const ended = (): void => {
    if (ms === Infinity) return
    timer = setTimeout(() => {
      const why = `its requests haven't completed within ${ms} ms of the service's end`
      controller.abort(new DeviceAbandonedError(`the device is abandoned: ${why}`, { ms }))
    }, ms)
  }
  if (end?.aborted) ended()
  end?.addEventListener('abort', ended)
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearTimeout(timer)
      end?.removeEventListener('abort', ended)
    },
  }
}

/**
 * Waits for work until the signal aborts. The work itself goes on after that.
 * @throws what the work rejects with, or the signal's reason
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const own = followingSignal(signal)
  let abort = (): void => {}
  const aborted = new Promise<never>((_, reject) => (abort = () => reject(own.reason)))
  if (own.aborted) abort()
  own.addEventListener('abort', abort)
  try {
    return await Promise.race([work, aborted])
  } finally {
    own.removeEventListener('abort', abort)
  }
}

/**
 * Returns a new signal that aborts when `signal` does. All devices of a server wait for the same
 * signal, and Node warns of a leak when a signal has more than 10 listeners.
 */
export const followingSignal = (signal: AbortSignal): AbortSignal => AbortSignal.any([signal])
