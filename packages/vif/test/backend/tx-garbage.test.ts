/**
 * Bytes of JavaScript's heap that a packet allocates from the ring to the link and back, over a
 * million packets. The event loop and the simulation's copies are left out.
 */
import type { Hypervisor } from '@xenkit/hypervisor'
import { RING_OFFSET } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { HeapMeter } from '../../../../bench/src/heap-meter.ts'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { TxRig } from '../support/tx-rig.ts'

const PACKETS = 1_000_000
/** Packets in a round: a full ring. */
const DEPTH = 256
/**
 * Most rounds until all code is compiled: the compiler's thread may have to wait for a processor.
 */
const WARM_UPS_MAX = 6

test('a packet takes less than a byte of heap', { timeout: 120_000 }, async () => {
  const through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, {
      bind(bind, o, onEvent) {
        const binding = bind(o, onEvent)
        binding.notify = () => {}
        return binding
      },
      opened(batch) {
        batch.copyIn = () => 0
        return batch
      },
    })
  await using rig = await TxRig.open({ through, forgets: true })
  const { ring, bytes } = rig.front
  for (let i = 0; i < DEPTH; i++) rig.put({ size: 60 + i, id: i })
  const slots = Array.from({ length: DEPTH }, (_, i) => {
    const at = RING_OFFSET + i * ring.slotSize
    return bytes.slice(at, at + ring.slotSize)
  })
  /** Lets the backend answer the ring's packets, then puts the same ones there again. */
  const round = (): void => {
    rig.turn()
    if (ring.drain(DEPTH) !== DEPTH) throw new Error('an answer is missing')
    for (const slot of slots) bytes.set(slot, ring.reserveRequest())
  }
  const meter = new HeapMeter()
  const million = (): number => {
    meter.begin()
    for (let done = 0; done < PACKETS; done += DEPTH) round()
    return meter.end()
  }
  let millions = 1
  while (million() >= PACKETS && millions < WARM_UPS_MAX) millions++
  expect(millions).toBeLessThan(WARM_UPS_MAX)
  expect(rig.counters.stats).toMatchObject({
    framesSent: millions * Math.ceil(PACKETS / DEPTH) * DEPTH,
    sendErrors: 0,
  })
})
