/**
 * A frontend that has closed gets no event, except with answers to its outstanding requests.
 * blkfront before Linux 5.15 frees its queue before it writes Closed, and keeps its interrupt until
 * the backend is Closed: an event in between is a NULL dereference in the guest's kernel.
 */
import fc from 'fast-check'
import { BLKIF_OP, XenbusState } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { unplugVbd } from '../../src/index.ts'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { recordingStore } from '../support/recording-store.ts'
import { heardOf, rig } from '../support/rig.ts'

/** Actions of the frontend and the toolstack on a connected disk. */
const life = fc.record({
  /** Number of requests that are answered before the end. */
  before: fc.nat(40),
  /** Number of requests that the store holds when the frontend closes. */
  out: fc.nat(8),
  /** States that the frontend writes last. */
  way: fc.constantFrom<readonly XenbusState[]>(
    [XenbusState.Closed],
    [XenbusState.Closing, XenbusState.Closed],
  ),
  asked: fc.constantFrom('by nobody', 'by the toolstack', 'by the server'),
  dataPath: fc.constantFrom('copy' as const, 'map' as const, 'persistent' as const),
})

test('a closed frontend gets no event except with answers', async () => {
  await fc.assert(
    fc.asyncProperty(life, async ({ before, out, way, asked, dataPath }) => {
      let notified = 0
      const store = recordingStore(1024)
      await using r = await rig({
        store,
        dataPath,
        through: (dom0) =>
          hooked(dom0, {
            bind: (bind, ...args) => {
              const binding = bind(...args)
              const notify = binding.notify.bind(binding)
              binding.notify = () => {
                notified++
                notify()
              }
              return binding
            },
          }),
      })
      await r.plug()
      const front = await RawFrontend.open(r.guest, { persistent: true })
      await r.event(({ kind }) => kind === 'connected')
      const address = { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' }
      for (let i = 0; i < before; i++) await front.exchange({ operation: BLKIF_OP.WRITE })
      if (out > 0) {
        store.hold()
        for (let i = 0; i < out; i++) front.put({ id: BigInt(i), sector: BigInt(64 * i) })
        front.send()
        await store.held(out)
      }
      const ended =
        asked === 'by the toolstack'
          ? unplugVbd(r.xs, address)
          : asked === 'by the server'
            ? r.stop()
            : undefined
      if (ended) await front.device.backendClosing()
      const atClose = notified
      for (const state of way) await front.xs.write(`${front.device.path}/state`, String(state))
      if (out > 0) {
        await heardOf(r)
        expect(notified).toBe(atClose)
        store.letGo()
        expect(await front.responses(out)).toHaveLength(out)
      }
      await r.event(({ kind }) => kind === 'closed')
      if (out === 0) expect(notified).toBe(atClose)
      else expect(notified - atClose).toBeLessThanOrEqual(out)
      front.release()
      await ended
      if (asked !== 'by the toolstack') {
        await unplugVbd(r.xs, address, { signal: AbortSignal.abort() })
      }
    }),
    { numRuns: 40, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
  )
})
