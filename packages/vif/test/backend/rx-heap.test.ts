/**
 * Bytes of JavaScript's heap that a received packet allocates, over a million. The event loop is
 * left out, and the guest posts its buffers again at once.
 */
import type { Hypervisor } from '@xenkit/hypervisor'
import { expect, test } from 'vitest'
import { HeapMeter } from '../../../../bench/src/heap-meter.ts'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { content, rxRig } from '../support/rx-rig.ts'

const PACKETS = 1_000_000
const BATCH = 64
/**
 * Most rounds until all code is compiled: the compiler's thread may have to wait for a processor.
 */
const WARM_UPS_MAX = 6

test.each([
  ['is delivered at once', true],
  ['waits for a buffer', false],
])('a packet that %s takes less than a byte of heap', async (_, atOnce) => {
  // Events and copies do nothing here, since they belong to the event loop and the simulation.
  const through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, {
      bind(bind, o) {
        const binding = bind(o, () => {})
        binding.notify = () => {}
        binding.unmask = () => {}
        return binding
      },
      opened(batch) {
        batch.copyOut = () => 0
        return batch
      },
    })
  await using r = await rxRig({ through })
  const frames = r.batch(Array.from({ length: BATCH }, () => content(60)))
  const { words } = r.front
  let reqProd = 0
  const post = (): void => {
    reqProd += BATCH
    Atomics.store(words, 0, reqProd)
    // Ask for an event with the next response.
    Atomics.store(words, 3, reqProd - BATCH + 1)
  }
  const round = (): void => {
    // As an event of the guest does, in a round of the event loop.
    r.served.guestTurn.woken()
    if (atOnce) post()
    r.server.send(frames)
    if (atOnce) return
    post()
    r.server.turn()
  }
  const meter = new HeapMeter()
  const million = (): number => {
    meter.begin()
    for (let sent = 0; sent < PACKETS; sent += BATCH) round()
    return meter.end()
  }
  let millions = 1
  while (million() >= PACKETS && millions < WARM_UPS_MAX) millions++
  expect(millions).toBeLessThan(WARM_UPS_MAX)
  expect(r.counters.stats).toMatchObject({ framesReceived: millions * PACKETS, receiveDrops: 0 })
  expect(words[2]).toBe(millions * PACKETS)
})
