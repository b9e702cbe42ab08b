/**
 * Thread that grants and maps pages and notifies another domain as fast as it can. Its `orders`:
 * the number of rounds, and the other domain's domid.
 */
import { data, report, thisDomain } from './this-domain.ts'

const [rounds = 0, other = 0] = data.orders
await using hv = thisDomain()
report('started')
for (let round = 0; round < rounds; round++) {
  using share = hv.grants.share({ domid: hv.domid, pages: 2, writable: true })
  using own = hv.arena.allocate(1)
  using port = hv.evtchn.bindUnbound({ domid: other }, () => {})
  using batch = hv.grants.openCopyBatch({ domid: hv.domid, capacity: 1 })
  share.bytes.fill(round)
  using mapping = hv.grants.map(
    [...share.grefs].map((gref) => ({ domid: hv.domid, gref })),
    { writable: true },
  )
  batch.gref[0] = share.grefs[1] ?? 0
  batch.length[0] = 4096
  batch.local[0] = own.byteOffset
  batch.copyIn(1)
  if (mapping.bytes[0] !== round % 256 || own.bytes[4095] !== round % 256) {
    throw new Error(`round ${round} found other bytes than its own`)
  }
  port.notify()
  if (round % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
}
