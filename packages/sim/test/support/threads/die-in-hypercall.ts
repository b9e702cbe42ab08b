/**
 * Thread that stays inside a hypercall, with an incomplete mapping, until the test terminates it.
 * Its `orders`: the gref to map, of domain 0.
 */
import { Hypervisor } from '../../../src/hypervisor.ts'
import { MachineState } from '../../../src/machine-state.ts'
import { data, report } from './this-domain.ts'

const { domid, machine } = data.domain
const hypervisor = new Hypervisor(new MachineState(machine))
const gref = data.orders[0] ?? 0
hypervisor.locked(domid, () => {
  const frame = hypervisor.grants.frame(0, gref)
  hypervisor.frames.addMap(frame, true)
  hypervisor.grants.noteMaps(0, gref, frame)
  report('inside')
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
})
