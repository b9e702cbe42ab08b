/** A thread that serves disks' rings for `serveVbd`, with its own hypervisor. */
import { parentPort, workerData } from 'node:worker_threads'
import type { Hypervisor } from '@xenkit/hypervisor'
import { type Port, serveRings } from '@xenkit/backend'
import { diskRings } from '@xenkit/vbd'
import { openHypervisor } from '../open-hypervisor.ts'
import { warmUp } from '../warm-up.ts'

/** The part of the thread's workerData that `startRingThread` sets. */
export interface RingThreadOrders {
  /** Name of the server's hypervisor, which the thread opens too. */
  readonly adapter: Hypervisor['name']
  readonly rings: Port
}

const { adapter, rings } = workerData as RingThreadOrders // only startRingThread sets workerData
await using hv = await openHypervisor({ adapter })
// The kernel closes a process's resources at its exit. A thread of a simulated domain that fails
// has no kernel, so it closes the hypervisor itself.
process.once('exit', () => void hv.close())
await using _compiled = await warmUp(hv)
parentPort?.postMessage('ready')
await serveRings(hv, rings, { vbd: diskRings })
