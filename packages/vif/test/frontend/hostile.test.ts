/** A backend that writes anything to the rings: the card works on, or closes with its fault. */
import { PeerError } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bytesOf, connectedVif } from '../support/connected-vif.ts'

const index = fc.constantFrom(0, 4, 8, 12)
const slot = fc.integer({ min: 64, max: 400 }).map((at) => at & ~3)
const small = fc.integer({ min: 0, max: 300 })
const any = fc.integer({ min: 0, max: 0xffff_ffff })
const write = fc.record({
  ring: fc.constantFrom('tx', 'rx'),
  at: fc.oneof(index, slot),
  value: fc.oneof(small, any),
  send: fc.boolean(),
})

test('any words in the rings: frames, or an error of the peer, and a card that closes', async () => {
  let failed = 0
  let survived = 0
  await fc.assert(
    fc.asyncProperty(fc.array(write, { maxLength: 12 }), async (writes) => {
      await using r = await connectedVif()
      const { queue } = r.back
      r.vif.onFrames(() => {})
      const errors: unknown[] = []
      for (const { ring, at, value, send } of writes) {
        if (send) await r.vif.sendFrame(bytesOf(5000)).catch((error: unknown) => errors.push(error))
        queue[ring === 'tx' ? 'tx' : 'rx'].page.setUint32(at, value, true)
        for (const port of queue.ports) port.notify()
        await r.back.xs.exists('/local')
      }
      const outcome = await Promise.race([
        r.vif.writable().catch((error: unknown) => error),
        r.back.xs.exists('/local').then(() => undefined),
      ])
      for (const error of [...errors, ...(outcome === undefined ? [] : [outcome])]) {
        expect(error).toBeInstanceOf(PeerError)
      }
      if (outcome === undefined) survived++
      else failed++
    }),
    { numRuns: 60 },
  )
  // Both outcomes were met.
  expect(Math.min(failed, survived)).toBeGreaterThan(0)
})
