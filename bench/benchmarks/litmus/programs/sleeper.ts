/**
 * sleeper RING CONTROL BARRIER: the backend of the litmus test. RING and CONTROL are grant
 * references of the guest's pages; see peer.c. With BARRIER `none` the ring stores its indices
 * without a barrier, as if Atomics.store weren't needed. Each line on standard input is a number of
 * rounds.
 */
import { BackRing } from '@xenkit/ring'
import { blkif } from '@xenkit/wire'
import { openHypervisor } from 'xenkit'
import { answerLines } from '../../../src/answer-lines.ts'

const [ringRef, controlRef, barrier] = process.argv.slice(2)
const [STEP, TAKEN, FOUND] = [0, 16, 32]

if (barrier === 'none') {
  Object.assign(Atomics, {
    store: (array: Int32Array, index: number, value: number) => (array[index] = value),
  })
}
await using hv = await openHypervisor({ adapter: 'xen' })
const map = (gref: unknown): Uint8Array =>
  hv.grants.map([{ domid: 1, gref: Number(gref) }], { writable: true }).bytes
const ring = BackRing.attach({ bytes: map(ringRef), slotSize: blkif.x86_64.slotSize })
const page = map(controlRef)
const control = new Int32Array(page.buffer, page.byteOffset, page.length / 4)
let step = 0

/**
 * Waits until the guest starts the next step, then runs `act` and reports its result to the guest.
 */
function take(act: () => boolean): void {
  step = (step + 1) | 0
  while (Atomics.load(control, STEP) !== step);
  control[FOUND] = act() ? 1 : 0
  Atomics.exchange(control, TAKEN, step)
}

const look = (): boolean => ring.finalCheck()
const publish = (): boolean => ring.publish()

await answerLines(async (rounds) => {
  for (let round = 0; round < Number(rounds); round++) {
    take(look)
    while (ring.drain(1) === 0);
    ring.reserveResponse()
    take(publish)
  }
  return step
})
