/**
 * net-serve TAP: xenkit's network backend as a user runs it, on the devices that devices.c
 * simulates. Its card is plugged into the TAP device TAP. The line `begin` starts to count the
 * bytes allocated on the heap, and the answer to `end` is that count.
 */
import { openHypervisor, openTap, serveVif } from 'xenkit'
import { answerLines } from '../../../src/answer-lines.ts'
import { HeapMeter } from '../../../src/heap-meter.ts'

const [name = ''] = process.argv.slice(2)
await using hv = await openHypervisor({ adapter: 'xen' })
const served = serveVif(hv, {
  link: openTap({ name }),
  onEvent: (event) => {
    if ('error' in event) console.error(event.kind, event.error)
  },
})
const meter = new HeapMeter()
await Promise.race([
  served,
  answerLines(async (request) => (request === 'begin' ? meter.begin() : meter.end())),
])
// Exit without waiting for the card to close, because the guest keeps it connected.
process.exit()
