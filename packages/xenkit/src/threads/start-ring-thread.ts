/** Starts the worker threads of `serveVbd`. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Hypervisor } from '@xenkit/hypervisor'
import { SimDomain } from '@xenkit/sim'
import type { RingThread } from '@xenkit/backend'
import { DOMAIN_KEY } from '../open-hypervisor.ts'
import type { RingThreadOrders } from './ring-thread.ts'
import { startThread } from './start-thread.ts'

/**
 * Milliseconds that a thread may take to end. A thread whose disk was abandoned waits for the
 * store, perhaps forever. After this time it is left running until the process ends.
 */
const EXIT_TIMEOUT_MS = 5_000

/**
 * Starts a thread that serves rings.
 * @param hv the server's hypervisor, which the thread opens too
 * @throws TypeError for a hypervisor that can't be opened in another thread
 * @throws the thread's error if it can't open the hypervisor
 */
export async function startRingThread(hv: Hypervisor): Promise<RingThread> {
  if (hv.name === 'sim' && !(hv instanceof SimDomain)) {
    throw new TypeError(
      '"hv" expected a hypervisor that openHypervisor or createDomain made: others can\'t be opened in another thread',
    )
  }
  const { port1: port, port2: rings } = new MessageChannel()
  const domain = hv instanceof SimDomain ? hv.forThread() : undefined
  const orders: RingThreadOrders = { adapter: hv.name, rings }
  const worker = startThread({
    module: import.meta.resolve('xenkit/ring-thread'),
    data: { ...orders, [DOMAIN_KEY]: domain },
    transferList: [rings, ...(domain?.transferList ?? [])],
  })
  const ended = new Promise<unknown>((resolve) => {
    worker.once('error', resolve)
    worker.once('exit', (code) => resolve(new Error(`it exited with code ${code}`)))
  })
  await new Promise<void>((resolve, reject) => {
    worker.once('message', () => resolve())
    void ended.then(reject)
  })
  const exited = new Promise((resolve) => worker.once('exit', resolve))
  return {
    port,
    ended,
    async [Symbol.asyncDispose]() {
      port.close()
      const enough = new AbortController()
      const late = sleep(EXIT_TIMEOUT_MS, undefined, { signal: enough.signal }).catch(() => {})
      await Promise.race([exited, late])
      enough.abort()
      worker.unref()
    },
  }
}
