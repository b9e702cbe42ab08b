import type { XenControl } from '@xenkit/xen'
import { openControl } from '../open-hypervisor.ts'

/** Passes `work` xenstore of this machine, for a command that only sends requests to a server. */
export async function withControl(work: (control: XenControl) => Promise<void>): Promise<void> {
  await using control = await openControl()
  await work(control)
}
