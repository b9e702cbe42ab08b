/**
 * A backend of domain 1. Orders: gref, then a port for each counter in the page. On an event it
 * brings the answer, 16 words after the counter, up to the counter; a negative counter ends it.
 */
import { data, report, thisDomain } from './this-domain.ts'

const [gref = 0, ...ports] = data.orders
await using hv = thisDomain()
using mapping = hv.grants.map([{ domid: 1, gref }], { writable: true })
const words = new Int32Array(mapping.bytes.buffer, mapping.byteOffset, 32)
let events = 0

function answer(port: number, at: number): Promise<void> {
  return new Promise((resolve) => {
    const binding = hv.evtchn.bindInterdomain({ domid: 1, port }, () => {
      events++
      const counter = Atomics.load(words, at)
      Atomics.store(words, 16 + at, counter)
      // The work is done before the unmask: a count that comes meanwhile is another event.
      binding.unmask()
      binding.notify()
      if (counter >= 0) return
      binding.close()
      resolve()
    })
  })
}

await Promise.all(ports.map(answer))
report(events)
