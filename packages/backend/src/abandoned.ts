/** The end of waiting for stores, when a service is to end and one of them doesn't answer. */
import { type ErrorDetails, XenError } from '@xenkit/hypervisor'

/**
 * A disk's store had not answered when the service had to end. Its requests stay without an answer.
 * The rings are unmapped and the ports unbound. Memory that the store was given is neither unmapped
 * nor used for anything else until the store answers, or else the process ends.
 */
export class DiskAbandonedError extends XenError {
  /** @param details what came to this thread from another one has them already */
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_XEN_DISK_ABANDONED', message, details)
  }
}

/**
 * A signal that aborts with a `DiskAbandonedError` so many milliseconds after another one has
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
      const why = `its store hasn't answered within ${ms} ms of the service's end`
      controller.abort(new DiskAbandonedError(`the disk is abandoned: ${why}`, { ms }))
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
