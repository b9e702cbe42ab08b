/** `serveVbd` of @xenkit/vbd, with worker threads. */
import { type Hypervisor, expectInteger } from '@xenkit/hypervisor'
import { type ServeVbdOptions as VbdOptions, serveVbd as serveWith } from '@xenkit/vbd'
import { startRingThread } from './threads/start-ring-thread.ts'

/** Limit of `workers`; no dom0 has more processors. */
const MAX_WORKERS = 64

/** Options of `serveVbd`: those of @xenkit/vbd, with `workers` in place of `threads`. */
export interface ServeVbdOptions extends Omit<VbdOptions, 'threads'> {
  /**
   * Threads that serve the disks' rings, 0..64, default 0. Each has its own hypervisor and caches.
   * All rings are spread over the threads. Disks whose store has no `share` stay in the calling
   * thread.
   */
  readonly workers?: number
}

/**
 * Serves disks as `serveVbd` of @xenkit/vbd does, until the signal aborts.
 * @throws RangeError for `workers` out of range
 * @throws TypeError if the hypervisor can't be opened in another thread
 */
export async function serveVbd(
  hv: Hypervisor,
  { workers = 0, ...o }: ServeVbdOptions,
): Promise<void> {
  expectInteger('workers', workers, 0, MAX_WORKERS)
  const started = await Promise.allSettled(
    Array.from({ length: workers }, () => startRingThread(hv)),
  )
  const threads = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  try {
    for (const result of started) if (result.status === 'rejected') throw result.reason
    await serveWith(hv, { ...o, threads })
  } finally {
    await Promise.all(threads.map((thread) => thread[Symbol.asyncDispose]()))
  }
}
