/** `openWorkers`: threads that serve rings, for `workers` of `serveVbd` and its kin. */
import { Workers } from '@xenkit/backend'
import { type Hypervisor, expectInteger } from '@xenkit/hypervisor'
import { startRingThread } from './threads/start-ring-thread.ts'

/** Most threads: more than a dom0 has processors. */
const MAX_WORKERS = 64

/**
 * Starts threads that serve rings of devices, each with a hypervisor and caches of its own. Any
 * number of servers share them. Disks whose store has no `share` stay in the server's own thread.
 *
 * @param o.count threads, 0..64; with 0 the server's own thread serves all rings
 * @throws RangeError for a count out of range
 * @throws TypeError if `hv` can't be opened in another thread
 * @example
 * await using workers = await openWorkers(hv, { count: 2 })
 * await serveVbd(hv, { store, workers })
 */
export async function openWorkers(
  hv: Hypervisor,
  { count }: { readonly count: number },
): Promise<Workers> {
  expectInteger('count', count, 0, MAX_WORKERS)
  const started = await Promise.allSettled(Array.from({ length: count }, () => startRingThread(hv)))
  const workers = new Workers(
    started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])),
  )
  for (const result of started) {
    if (result.status === 'fulfilled') continue
    await workers[Symbol.asyncDispose]()
    throw result.reason
  }
  return workers
}
