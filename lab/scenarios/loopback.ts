/**
 * Runs the hypervisor adapter in dom0 against dom0 itself, which is both sides of every grant and
 * event channel.
 */
import { relay } from '../src/relay.ts'
import type { Lab } from '../src/scenario.ts'

export const title =
  'grants, copies, unmap notification and event channels of the real Xen, dom0 with itself'
export const programs = { loopback: 'lab/dom0/loopback/main.ts' }

export async function run(lab: Lab): Promise<void> {
  const dom0 = await lab.boot()
  await relay(lab, 'loopback', dom0.attempt('loopback', 120))
  // Hides xenstored's socket, so that only the kernel's device is left.
  await dom0.run('mv /run/xenstored/socket /run/xenstored/hidden')
  await relay(lab, 'loopback xenbus-device', dom0.attempt('loopback xenbus-device', 120))
  await dom0.run('mv /run/xenstored/hidden /run/xenstored/socket')
}
