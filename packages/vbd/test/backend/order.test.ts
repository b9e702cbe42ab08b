/** The order in which requests reach the store: barriers, and requests that wait for buffers. */
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { recordingStore } from '../support/recording-store.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const { OKAY } = BLKIF_RSP
const { READ, WRITE, WRITE_BARRIER, FLUSH_DISKCACHE, DISCARD } = BLKIF_OP

describe('a barrier', () => {
  test('waits for earlier requests, makes all data durable, and holds up later ones', async () => {
    const store = recordingStore(1024)
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    store.hold()
    for (const [i, operation] of [WRITE, DISCARD, WRITE_BARRIER, WRITE, READ].entries()) {
      front.put({ id: BigInt(i), operation, sector: BigInt(i * 16) })
    }
    front.send()
    const steps: string[][] = [
      ['write 0+8', 'discard 16+8'],
      ['flush'],
      ['write 32+8'],
      ['flush'],
      ['write 48+8', 'read 64+8'],
    ]
    for (let step = 0; step < steps.length; step++) {
      const due = steps.slice(0, step + 1).flat()
      await store.held(steps[step]?.length ?? 0)
      expect(store.calls).toEqual(due)
      if (step === 0) {
        // One of the two requests before it isn't enough.
        store.letGo(1)
        await new Promise(setImmediate)
        expect(store.calls).toEqual(due)
      }
      if (step < steps.length - 1) store.letGo(step === 0 ? 1 : steps[step]?.length)
    }
    store.letGo()
    expect((await front.responses(5)).every(({ status }) => status === OKAY)).toBe(true)
  })

  test("that fails doesn't hold up later requests", async () => {
    const store = recordingStore(1024)
    await using r = await rig({
      store: { ...store, flush: () => Promise.reject(new Error('no flush today')) },
    })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    const answers = await front.exchange(
      { id: 1n, operation: WRITE_BARRIER },
      { id: 2n, operation: WRITE_BARRIER, segments: [] },
      { id: 3n, operation: WRITE },
    )
    expect(new Map(answers.map(({ id, status }) => [id, status]))).toEqual(
      new Map([
        [1n, BLKIF_RSP.ERROR],
        [2n, BLKIF_RSP.ERROR],
        [3n, OKAY],
      ]),
    )
    expect(store.calls).toEqual(['write 0+8'])
  })

  test('in any sequence, a barrier is alone at the store, and no request passes one', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(READ, WRITE, WRITE_BARRIER, FLUSH_DISKCACHE, DISCARD), {
          minLength: 1,
          maxLength: 24,
        }),
        fc.array(fc.nat(3), { minLength: 1, maxLength: 8 }),
        async (operations, pace) => {
          const running = new Set<number>()
          const order: number[] = []
          let turn = 0
          const call = async (sector: number): Promise<void> => {
            const i = sector / 16
            const barrier = operations[i] === WRITE_BARRIER
            if (barrier) expect([...running]).toEqual([])
            for (const other of running) expect(operations[other]).not.toBe(WRITE_BARRIER)
            running.add(i)
            order.push(i)
            for (let n = pace[turn++ % pace.length] ?? 0; n > 0; n--) {
              await new Promise(setImmediate)
            }
            running.delete(i)
          }
          await using r = await rig({
            store: { sectors: 1024, read: call, write: call, discard: call, flush() {} },
          })
          await r.plug()
          await using front = await RawFrontend.open(r.guest)
          const answers = await front.exchange(
            ...operations.map((operation, i) => ({
              id: BigInt(i),
              operation,
              sector: BigInt(i * 16),
            })),
          )
          expect(
            answers
              .map(({ id, status }) => [Number(id), status])
              .toSorted(([a = 0], [b = 0]) => a - b),
          ).toEqual(operations.map((_, i) => [i, OKAY]))
          for (const [i, operation] of operations.entries()) {
            if (operation !== WRITE_BARRIER) continue
            const at = order.indexOf(i)
            expect(
              order.slice(0, at).every((before) => before < i) &&
                order.slice(at + 1).every((after) => after > i),
            ).toBe(true)
          }
        },
      ),
      { numRuns: 25 },
    )
  })
})

describe('buffers', () => {
  const large = (front: RawFrontend, i: number) => ({
    id: BigInt(i),
    indirect_op: WRITE,
    sector: BigInt(i * 4096),
    segments: Array.from({ length: 256 }, (_, page) => ({ gref: front.data.grefs[page] ?? 0 })),
  })

  test('four of the largest requests of a guest are at the store, the next one waits', async () => {
    const store = recordingStore(65_536)
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { dataPages: 256 })
    store.hold()
    for (let i = 0; i < 12; i++) front.put(large(front, i))
    front.send()
    await store.held(4)
    for (let i = 0; i < 4; i++) await new Promise(setImmediate)
    expect(store.calls).toHaveLength(4)
    store.letGo(1)
    await store.held(4)
    expect(store.calls).toHaveLength(5)
    store.letGo()
    expect((await front.responses(12)).every(({ status }) => status === OKAY)).toBe(true)
  })

  test('endless small requests of one queue do not hold up a large one of another', async () => {
    const store = recordingStore(65_536)
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { dataPages: 256, queues: 2 })
    store.hold()
    for (let i = 0; i < 4; i++) front.put(large(front, i))
    for (let i = 0; i < 8; i++) {
      front.put({ id: 100n + BigInt(i), operation: WRITE, sector: BigInt(50_000 + i * 16) })
    }
    front.send()
    await store.held(4 + 8)
    front.put({ ...large(front, 7), id: 7n }, 1)
    front.send(1)
    for (let i = 0; i < 4; i++) await new Promise(setImmediate)
    for (let i = 0; i < 8; i++) {
      front.put({ id: 200n + BigInt(i), operation: WRITE, sector: BigInt(60_000 + i * 16) })
    }
    front.send()
    for (let i = 0; i < 4; i++) await new Promise(setImmediate)
    // There is room for the small requests, but the large one waits before them.
    expect(store.calls).toHaveLength(12)
    store.letGo(1)
    await store.held(11 + 9)
    expect(store.calls[12]).toBe('write 28672+2048')
    store.letGo()
    await Promise.all([front.responses(4 + 8 + 8), front.responses(1, 1)])
  })
})
