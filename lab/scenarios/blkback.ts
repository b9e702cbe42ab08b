/**
 * Runs our frontend against the backend of dom0's kernel, and against ours: both must pass the same
 * checks.
 */
import { relay } from '../src/relay.ts'
import type { Lab } from '../src/scenario.ts'

export const title = "openVbd against the kernel's blkback and against serveVbd, dom0 with itself"
export const programs = { blkback: 'lab/dom0/blkback/main.ts' }

export async function run(lab: Lab): Promise<void> {
  const dom0 = await lab.boot()
  await lab.check('the kernel has its block backend', () =>
    dom0.run('modprobe loop max_loop=8; modprobe xen-blkback max_queues=4'),
  )
  await relay(lab, 'blkback kernel', dom0.attempt('blkback kernel', 240))
  // Unload blkback first, because it would serve the same disks as our backend.
  await lab.check('its disks are closed, so it can be unloaded', () =>
    dom0.run('modprobe -r xen-blkback'),
  )
  await relay(lab, 'blkback xenkit', dom0.attempt('blkback xenkit', 240))
}
