/** A simulated machine with one disk plugged into one guest, ready for a backend. */
import type { SimDomain, SimMachine } from '@xenkit/sim'
import { createMachine } from '@xenkit/sim'
import { plugVbd } from '@xenkit/vbd'
import { openXenstore } from '@xenkit/xenstore-client'

export interface PluggedMachine {
  readonly machine: SimMachine
  readonly dom0: SimDomain
  readonly guest: SimDomain
  readonly vdev: string
}

/** Creates the machine with domain 0, a guest and the guest's disk. */
export async function plugMachine(o: { readonly seed: number }): Promise<PluggedMachine> {
  const machine = createMachine(o)
  const dom0 = machine.createDomain()
  const guest = machine.createDomain()
  const vdev = 'xvda'
  using xs = await openXenstore(dom0.xenstore)
  await plugVbd(xs, { frontendDomid: guest.domid, backendDomid: dom0.domid, vdev, readOnly: false })
  return { machine, dom0, guest, vdev }
}
