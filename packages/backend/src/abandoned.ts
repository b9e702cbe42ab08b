/** The end of waiting for requests in flight, when a service is to end and they don't complete. */
import { type ErrorDetails, XenError } from '@xenkit/hypervisor'

/**
 * Requests of a device were in flight when the service had to end: a store had not answered, say.
 * They stay without an answer. The rings are unmapped and the ports unbound. Memory that the
 * requests use is neither unmapped nor reused until they complete, or else the process ends.
 */
export class DeviceAbandonedError extends XenError {
  /** @param details what came to this thread from another one has them already */
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_XEN_DEVICE_ABANDONED', message, details)
  }
}

/**
 * A signal that aborts with a `DeviceAbandonedError` so many milliseconds after another one has
 * aborted, unless it is disposed of before.
 * @param ms Infinity: never
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
 * Waits for work, but no longer than until the signal aborts. The work goes on then.
 * @throws what the work is rejected with, or the signal's reason
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let abort = (): void => {}
  const aborted = new Promise<never>((_, reject) => (abort = () => reject(signal.reason)))
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort)
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
