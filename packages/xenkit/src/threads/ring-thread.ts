/** A thread that serves disks' rings for `serveVbd`, with its own hypervisor. */
import { parentPort, workerData } from 'node:worker_threads'
import type { Hypervisor } from '@xenkit/hypervisor'
import { type Port, serveRings } from '@xenkit/backend'
import { diskRings } from '@xenkit/vbd'
import { openHypervisor } from '../open-hypervisor.ts'
import { warmUp } from '../warm-up.ts'

/** What `startRingThread` passes to the thread in workerData. */
export interface RingThreadOrders {
  /** Adapter of the server's hypervisor. */
  readonly adapter: Hypervisor['name']
  readonly rings: Port
}

const { adapter, rings } = workerData as RingThreadOrders // set by startRingThread alone
await using hv = await openHypervisor({ adapter })
// The kernel closes a process's resources at its exit; for a failed thread of a simulated domain
// this does.
process.once('exit', () => void hv.close())
await using _compiled = await warmUp(hv)
parentPort?.postMessage('ready')
await serveRings(hv, rings, { vbd: diskRings })
