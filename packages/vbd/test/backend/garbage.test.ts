/**
 * Bytes of JavaScript's heap that a request allocates from the ring to the store and back, over a
 * million requests. The event loop is left out: the backend is called as if by an event, and the
 * guest takes its answers at once.
 */
import type { Hypervisor } from '@xenkit/hypervisor'
import { RING_OFFSET } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { HeapMeter } from '../../../../bench/src/heap-meter.ts'
import type { BlockStore } from '../../src/index.ts'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { instantBatch } from '../support/instant-batch.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const REQUESTS = 1_000_000
const DEPTH = 32
/**
 * Most rounds until all code is compiled: the compiler's thread may have to wait for a processor.
 */
const WARM_UPS_MAX = 6

const store: BlockStore = { sectors: 2 ** 20, read() {}, openBatch: (o) => instantBatch(o) }

test.each(['copy', 'persistent'] as const)(
  'a request by %s grants takes less than a byte of heap',
  async (dataPath) => {
    let wake = (): void => {}
    // Events and copies do nothing here, since they belong to the event loop and the simulation.
    const through = (dom0: Hypervisor): Hypervisor =>
      hooked(dom0, {
        bind(bind, o, onEvent) {
          const binding = bind(o, () => {})
          wake = onEvent
          binding.notify = () => {}
          binding.unmask = () => {}
          return binding
        },
        opened(batch) {
          batch.copyOut = () => 0
          return batch
        },
      })
    await using r = await rig({ store, dataPath, through })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, {
      dataPages: DEPTH,
      persistent: dataPath === 'persistent',
    })
    await front.device.connected()
    const {
      ring,
      data: { grefs },
    } = front
    const { bytes } = ring
    const slots = Array.from(grefs, (gref, i) => {
      front.put({ segments: [{ gref }], sector: BigInt(8 * i) })
      const at = RING_OFFSET + i * ring.slotSize
      return bytes.slice(at, at + ring.slotSize)
    })
    /** Lets the backend answer the ring's requests, then puts the same ones there again. */
    const round = (): void => {
      ring.publish()
      wake()
      if (ring.drain(DEPTH) !== DEPTH) throw new Error('an answer is missing')
      for (const slot of slots) bytes.set(slot, ring.reserveRequest())
    }
    const meter = new HeapMeter()
    const million = (): number => {
      meter.begin()
      for (let done = 0; done < REQUESTS; done += DEPTH) round()
      return meter.end()
    }
    let millions = 1
    while (million() >= REQUESTS && millions < WARM_UPS_MAX) millions++
    expect(millions).toBeLessThan(WARM_UPS_MAX)
    // All requests succeeded.
    const stats = r.events.find(({ kind }) => kind === 'connected')?.disk.stats
    expect([stats?.reads, stats?.errors]).toEqual([millions * REQUESTS, 0])
  },
)
