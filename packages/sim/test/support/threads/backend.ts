/**
 * Thread of a backend of domain 1. Its `orders`: a gref, then one port per counter in the granted
 * page. On an event it copies that port's counter to the word 16 after it. A negative counter
 * closes the port.
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
      // Copy first, then unmask: a counter that changes in between causes another event.
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
