/** `serveVbd` of @xenkit/vbd, with the threads that it can have. */
import { type Hypervisor, expectInteger } from '@xenkit/hypervisor'
import { type ServeVbdOptions as VbdOptions, serveVbd as serveWith } from '@xenkit/vbd'
import { startRingThread } from './threads/start-ring-thread.ts'

/** More than any dom0 has processors for. */
const MAX_WORKERS = 64

export interface ServeVbdOptions extends Omit<VbdOptions, 'threads'> {
  /**
   * Threads that serve the rings of disks, 0..64, each with a hypervisor and caches of its own. The
   * rings of a disk, and those of several disks, are spread over them. Disks whose store has no
   * `share` stay in this thread; all do by default, which is 0.
   */
  readonly workers?: number
}

/**
 * As `serveVbd` of @xenkit/vbd.
 * @throws TypeError if workers can't open the hypervisor as well
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
