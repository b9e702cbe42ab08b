/** A thread that serves rings, as a program would write it. */
import { parentPort, workerData } from 'node:worker_threads'
import { attachDomain } from '@xenkit/sim'
import { serveRings } from '@xenkit/backend'
import { diskRings } from '../../../src/index.ts'
import type { RingThreadData } from './start-ring-thread.ts'

const { domain, rings } = workerData as RingThreadData // set by startRingThread alone
await using hv = attachDomain(domain)
// The kernel cleans up after a process, but nobody does after a thread that fails.
process.once('exit', () => void hv.close())
parentPort?.on('message', () => {
  throw new Error('told to fail')
})
parentPort?.unref()
await serveRings(hv, rings, { vbd: diskRings })
