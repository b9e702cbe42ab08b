/**
 * A backend of domain 1. Orders: gref, port. Word 0 of the page is the frontend's counter, word 1 the
 * answer: what was last seen. A negative counter ends it.
 */
import { data, report, thisDomain } from './this-domain.ts'

const [gref = 0, port = 0] = data.orders
await using hv = thisDomain()
using mapping = hv.grants.map([{ domid: 1, gref }], { writable: true })
mapping.notifyOnUnmap({ clearByte: 8 })
const words = new Int32Array(mapping.bytes.buffer, mapping.byteOffset, 4)
let events = 0
await new Promise<void>((resolve) => {
  const binding = hv.evtchn.bindInterdomain({ domid: 1, port }, () => {
    events++
    const counter = Atomics.load(words, 0)
    Atomics.store(words, 1, counter)
    // The work is done before the unmask: a count that comes meanwhile is another event.
    binding.unmask()
    binding.notify()
    if (counter >= 0) return
    binding.close()
    resolve()
  })
})
report(events)
