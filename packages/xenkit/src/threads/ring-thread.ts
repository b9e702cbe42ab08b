/** A thread that serves rings of disks for `serveVbd`, with a hypervisor of its own. */
import { parentPort, workerData } from 'node:worker_threads'
import type { Hypervisor } from '@xenkit/hypervisor'
import { serveRings } from '@xenkit/vbd'
import { openHypervisor } from '../open-hypervisor.ts'

export interface RingThreadOrders {
  /** Of the server's hypervisor. */
  readonly adapter: Hypervisor['name']
  readonly rings: Parameters<typeof serveRings>[1]
}

const { adapter, rings } = workerData as RingThreadOrders // set by startRingThread alone
await using hv = await openHypervisor({ adapter })
// What the system does for a process, and nobody for a thread of a simulated domain that fails.
process.once('exit', () => void hv.close())
parentPort?.postMessage('ready')
await serveRings(hv, rings)
