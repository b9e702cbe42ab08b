/**
 * Bytes of JavaScript's heap that a card allocates for each frame, over a million. The event loop
 * is left out: the backend answers in the same thread.
 */
import { Frames } from '@xenkit/frames'
import { type GrantShare, type Hypervisor, Owner } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import { type SimMachine, createMachine } from '@xenkit/sim'
import { type OpenedRing, openRing } from '@xenkit/xenbus'
import { expect, test } from 'vitest'
import { HeapMeter } from '../../../../bench/src/heap-meter.ts'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { INBOX_PAGES, RxRing } from '../../src/frontend/rx-ring.ts'
import { TxRing } from '../../src/frontend/tx-ring.ts'
import { zeroCounts } from '../../src/frontend/vif-counts.ts'

const FRAMES = 1_000_000
const BATCH = 64
const PAGES = 256
/** Most rounds until all code is compiled. */
const WARM_UPS_MAX = 6

/** Index of rsp_prod among a ring's words. */
const RSP_PROD = 2

class Rig implements AsyncDisposable {
  readonly machine: SimMachine = createMachine()
  readonly hv: Hypervisor
  readonly owner = new Owner()
  readonly arena: Uint8Array
  readonly counts = zeroCounts()
  readonly #domid: number

  constructor() {
    this.#domid = this.machine.createDomain().domid
    const guest = this.machine.createDomain()
    this.arena = new Uint8Array(guest.arena.buffer)
    // Events belong to the event loop.
    this.hv = hooked(guest, {
      bind(bind, o) {
        const binding = bind(o, () => {})
        binding.notify = () => {}
        return binding
      },
    })
  }

  ring(slotSize: number): OpenedRing<FrontRing> {
    const init = (bytes: Uint8Array): FrontRing => FrontRing.init({ bytes, slotSize })
    return this.owner.own(openRing(this.hv, { domid: this.#domid, init }))
  }

  pages(): GrantShare {
    const o = { domid: this.#domid, pages: PAGES, writable: true }
    return this.owner.own(this.hv.grants.share(o))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.owner.close()
    await this.machine[Symbol.asyncDispose]()
  }
}

/** Runs batches until a million frames take less than a byte each. */
function millions(batch: () => void): number {
  const meter = new HeapMeter()
  for (let count = 1; count <= WARM_UPS_MAX; count++) {
    meter.begin()
    for (let sent = 0; sent < FRAMES; sent += BATCH) batch()
    if (meter.end() < FRAMES) return count
  }
  throw new Error('every million of frames took more than a million bytes')
}

test('a frame that is sent from the arena takes less than a byte of heap', async () => {
  await using r = new Rig()
  const opened = r.ring(12)
  const { arena, counts } = r
  const tx = new TxRing({ opened, pages: r.pages(), arena, counts, sg: true, gso: [true] })
  const { bytes } = opened
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, 4)
  const slots = new Uint16Array(bytes.buffer, bytes.byteOffset, 2048)
  const memory = r.owner.own(r.hv.arena.allocate(1))
  const frames = new Frames(BATCH)
  frames.reset(arena)
  for (let i = 0; i < BATCH; i++) frames.add({ start: memory.byteOffset + 60 * i, length: 60 })
  let answered = 0
  const count = millions(() => {
    tx.send(frames, 0)
    for (let i = 0; i < BATCH; i++, answered++) {
      const slot = 32 + 6 * (answered & 255)
      slots[slot] = slots[slot + 4] ?? 0
      slots[slot + 1] = 0
    }
    Atomics.store(words, RSP_PROD, answered | 0)
    tx.drain()
  })
  expect(counts).toMatchObject({ sentFrames: count * FRAMES, sendErrors: 0 })
})

test('a frame that is received takes less than a byte of heap', async () => {
  await using r = new Rig()
  const opened = r.ring(8)
  const { arena, counts } = r
  const inbox = r.owner.own(r.hv.arena.allocate(INBOX_PAGES))
  let got = 0
  const rx = new RxRing({
    opened,
    pages: r.pages(),
    inbox,
    arena,
    counts,
    received: (frames) => void (got += frames.count),
  })
  const { bytes } = opened
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, 4)
  const slots = new Uint16Array(bytes.buffer, bytes.byteOffset, 2048)
  let answered = 0
  const count = millions(() => {
    for (let i = 0; i < BATCH; i++, answered++) {
      const slot = 32 + 4 * (answered & 255)
      slots[slot + 1] = 0
      slots[slot + 2] = 0
      slots[slot + 3] = 60
    }
    Atomics.store(words, RSP_PROD, answered | 0)
    rx.drain()
  })
  expect(got).toBe(count * FRAMES)
  expect(counts).toMatchObject({ receivedFrames: count * FRAMES, receiveErrors: 0 })
})
