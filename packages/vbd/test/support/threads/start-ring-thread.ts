/** Worker threads for `serveVbd` that run the TypeScript sources, as the tests do. */
import { Worker } from 'node:worker_threads'
import type { DomainHandle, SimDomain } from '@xenkit/sim'
import type { RingThread } from '@xenkit/backend'

export interface RingThreadData {
  readonly file: string
  readonly domain: DomainHandle
  readonly rings: InstanceType<typeof MessagePort>
}

export interface StartedThread extends RingThread {
  /** Makes the thread throw an uncaught error. */
  fail(): void
}

export function startRingThread(domain: SimDomain): StartedThread {
  const { port1: port, port2: rings } = new MessageChannel()
  const handle = domain.forThread()
  const workerData: RingThreadData = {
    file: new URL('ring-thread.ts', import.meta.url).href,
    domain: handle,
    rings,
  }
  const worker = new Worker(
    new URL('../../../../sim/test/support/threads/on-sources.mjs', import.meta.url),
    {
      workerData,
      transferList: [rings, ...handle.transferList],
      execArgv: ['--conditions=xenkit-source'],
    },
  )
  const exited = new Promise<unknown>((resolve) => worker.once('exit', resolve))
  return {
    port,
    ended: new Promise((resolve) => {
      worker.once('error', resolve)
      void exited.then((code) => resolve(new Error(`it exited with code ${String(code)}`)))
    }),
    fail: () => worker.postMessage('fail'),
    async [Symbol.asyncDispose]() {
      port.close()
      await exited
    },
  }
}
