/** The copies of a guest's packets: one call for a batch, whatever fails in it. */
import type { GrantCopyBatch, Hypervisor } from '@xenkit/hypervisor'
import { GrantError } from '@xenkit/hypervisor'
import { NETIF_RSP, NETTXF } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { patternAt, TxRig } from '../support/tx-rig.ts'

const { more_data } = NETTXF

/** Wraps the copies of a backend. `copied` sees each call before it is made. */
const copying =
  (copied: (batch: GrantCopyBatch, count: number) => void) =>
  (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, {
      opened(batch) {
        const copyIn = batch.copyIn.bind(batch)
        batch.copyIn = (count) => {
          copied(batch, count)
          return copyIn(count)
        }
        return batch
      },
    })

test('64 small packets, or four of 64 KiB, take one call', async () => {
  const calls: number[] = []
  const through = copying((_, count) => void calls.push(count))
  await using rig = await TxRig.open({ through })
  for (let i = 0; i < 64; i++) rig.put({ size: 60, id: i })
  rig.turn()
  expect(calls).toEqual([64])
  calls.length = 0
  for (let packet = 0; packet < 5; packet++) {
    for (let i = 0; i < 16; i++) {
      const size = i === 0 ? 0xffff : i < 15 ? 4096 : 4095
      rig.put({ gref: rig.gref(i), size, flags: i < 15 ? more_data : 0 })
    }
  }
  rig.turn()
  expect(calls).toEqual([64, 16])
  expect(rig.batches).toEqual([64, 4, 1])
  const whole = Uint8Array.from({ length: 0xffff }, (_, i) => patternAt(i >> 12, i & 4095))
  expect(rig.frames.slice(64).every(({ bytes }) => Buffer.compare(bytes, whole) === 0)).toBe(true)
})

test('packets that have no frame take no call', async () => {
  const calls: number[] = []
  await using rig = await TxRig.open({ through: copying((_, count) => void calls.push(count)) })
  rig.put({ size: 13, id: 1 })
  rig.turn()
  expect(calls).toEqual([])
  expect(rig.answers()).toEqual([`1:${NETIF_RSP.ERROR}`])
})

test('parts of 0 bytes are not copied: their grants may be anything', async () => {
  await using rig = await TxRig.open()
  rig.put({ gref: 0xffff_ffff, size: 60, flags: more_data, id: 1 })
  rig.put({ gref: rig.gref(3), size: 60, offset: 9, flags: more_data, id: 2 })
  rig.put({ gref: 0, offset: 4096, id: 3 })
  rig.turn()
  expect(rig.answers()).toEqual(['1:0', '2:0', '3:0'])
  expect(rig.frames[0]?.bytes).toEqual(
    Uint8Array.from({ length: 60 }, (_, i) => patternAt(3, 9 + i)),
  )
})

test('parts in pages that stay mapped are copied without the hypervisor', async () => {
  const calls: number[] = []
  await using rig = await TxRig.open({ through: copying((_, count) => void calls.push(count)) })
  const grefs = [2, 5].map((page) => ({ gref: rig.gref(page), writable: false }))
  expect(rig.staticGrefs.add(grefs)).toBe(true)
  const put = (id: number, pages: readonly number[]): Uint8Array => {
    for (const [i, page] of pages.entries()) {
      const size = i === 0 ? 50 * pages.length : 50
      const flags = i + 1 < pages.length ? more_data : 0
      rig.put({ gref: rig.gref(page), offset: 4046, size, flags, id })
    }
    return Uint8Array.from(
      pages.flatMap((page) => Array.from({ length: 50 }, (_, i) => patternAt(page, 4046 + i))),
    )
  }
  const expected = [put(1, [2]), put(2, [5, 3, 2]), put(3, [4])]
  rig.turn()
  expect(rig.frames.map(({ bytes }) => bytes)).toEqual(expected)
  expect(calls).toEqual([2])
  // Without a page that isn't mapped, there is no call.
  put(4, [2, 5])
  rig.turn()
  expect([rig.frames.length, ...calls]).toEqual([4, 2])
  // A deleted page is copied by the hypervisor again.
  rig.staticGrefs.delete([rig.gref(2)])
  put(5, [2])
  rig.turn()
  expect([rig.frames.length, ...calls]).toEqual([5, 2, 1])
  expect(rig.answers()).toHaveLength(8)
})

test('a packet one of whose copies fails is answered with errors, and no other is', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }), {
        minLength: 1,
        maxLength: 20,
      }),
      async (packets) => {
        await using rig = await TxRig.open()
        const answers: string[] = []
        for (const [i, parts] of packets.entries()) {
          for (const [part, fails] of parts.entries()) {
            rig.put({
              gref: fails ? 0xffff : rig.gref(part),
              offset: i,
              size: part === 0 ? 20 * parts.length : 20,
              flags: part + 1 < parts.length ? more_data : 0,
              id: i,
            })
            answers.push(`${i}:${parts.includes(true) ? NETIF_RSP.ERROR : NETIF_RSP.OKAY}`)
          }
        }
        rig.turn()
        expect(rig.answers()).toEqual(answers)
        const sent = [...packets.entries()].filter(([, parts]) => !parts.includes(true))
        expect(rig.frames.map(({ bytes }) => [...bytes])).toEqual(
          sent.map(([i, parts]) =>
            parts.flatMap((_, part) =>
              Array.from({ length: 20 }, (__, at) => patternAt(part, i + at)),
            ),
          ),
        )
        expect(rig.counters.stats).toMatchObject({
          framesSent: sent.length,
          sendErrors: packets.length - sent.length,
        })
        expect(rig.failures).toEqual([])
      },
    ),
    { numRuns: 60 },
  )
})

test('what a guest writes after its slots are copied is never seen', async () => {
  // The guest changes its slots and pages between the backend's reads.
  const through = copying(() => {
    rig.front.bytes.fill(0xff, 64)
  })
  const rig = await TxRig.open({
    through,
    link: { send: () => void rig.data.bytes.fill(0xaa) },
  })
  await using _ = rig
  for (let i = 0; i < 3; i++) rig.put({ size: 60, offset: i, id: i })
  rig.turn()
  expect(rig.frames.map(({ bytes }) => bytes[0])).toEqual([0, 1, 2].map((at) => patternAt(0, at)))
  expect(rig.answers()).toEqual(['0:0', '1:0', '2:0'])
})

test('when the hypervisor refuses the whole call, the ring stops and nothing stays in flight', async () => {
  const refusal = new GrantError('the call failed: EFAULT', { status: -14 })
  const through = copying(() => {
    throw refusal
  })
  await using rig = await TxRig.open({ through })
  rig.put({ size: 60 })
  rig.turn()
  expect(rig.failures).toEqual([refusal])
  expect([rig.frames.length, rig.work.server.inFlight]).toEqual([0, 0])
  await rig.work.server.settle({ frontend: 'closed' })
})

test('when the link throws, the ring stops and nothing stays in flight', async () => {
  const fault = new Error('a fault of the link')
  await using rig = await TxRig.open({
    link: {
      send() {
        throw fault
      },
    },
  })
  rig.put({ size: 60 })
  rig.turn()
  expect(rig.failures).toEqual([fault])
  expect(rig.work.server.inFlight).toBe(0)
})

test('a link that stops the ring in `send` gets no more frames', async () => {
  const rig = await TxRig.open({
    link: { send: () => rig.work.server.abandon() },
    rate: { bytes: 1, periodUs: 1_000_000 },
  })
  await using _ = rig
  for (let i = 0; i < 200; i++) rig.put({ size: 60 })
  rig.turn()
  expect(rig.batches).toEqual([])
  rig.credit.change(undefined)
  expect(rig.batches).toEqual([64])
  expect(rig.responses()).toEqual([])
})

test('the memory of frames is private, aligned, and given back', async () => {
  const starts: number[] = []
  const rig = await TxRig.open({
    link: {
      send(frames) {
        expect(frames.memory.buffer).toBe(rig.dom0.arena.buffer)
        starts.push(...frames.start.subarray(0, frames.count))
        // A link may write to it.
        for (let i = 0; i < frames.count; i++) frames.bytes(i).fill(0xcc)
      },
    },
  })
  await using _ = rig
  for (let round = 0; round < 3; round++) {
    for (const size of [60, 1514, 65, 64]) rig.put({ size, id: round })
    rig.turn()
  }
  const [base = 0] = starts
  const expected = [0, 64, 64 + 1536, 64 + 1536 + 128].map((offset) => base + offset)
  expect(starts).toEqual([...expected, ...expected, ...expected])
  expect(rig.page(0)[0]).toBe(patternAt(0, 0))
  expect(rig.pool.pages).toBe(16)
})
