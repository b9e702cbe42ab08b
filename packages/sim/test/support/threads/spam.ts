/**
 * Thread that notifies in a tight loop until its domain is destroyed. Its `orders`: the port of
 * domain 0 to bind to.
 */
import { data, report, thisDomain } from './this-domain.ts'

const hv = thisDomain()
const binding = hv.evtchn.bindInterdomain({ domid: 0, port: data.orders[0] ?? 0 }, () => {})
report('started')
for (;;) binding.notify()
