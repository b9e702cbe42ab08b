/**
 * Requests as jobs of a store's batch: what a job contains, how it ends, and which requests are no
 * jobs.
 */
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { expect, test } from 'vitest'
import type { BlockStore, StoreBatchOptions } from '../../src/index.ts'
import { instantBatch } from '../support/instant-batch.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const { OKAY, ERROR } = BLKIF_RSP

type Batch = ReturnType<typeof instantBatch>

/**
 * A store with a batch as `instantBatch` makes it, with the members that `change` replaces, and a
 * log of its calls.
 */
function batched(change: (batch: Batch, o: StoreBatchOptions) => Partial<Batch> = () => ({})): {
  readonly store: BlockStore
  readonly calls: string[]
} {
  const calls: string[] = []
  const note = (call: string) => () => void calls.push(call)
  return {
    calls,
    store: {
      sectors: 64,
      read: note('read'),
      write: note('write'),
      flush: note('flush'),
      openBatch(o) {
        const batch = instantBatch(o, (count) => calls.push(`start ${count}`))
        return { ...batch, close: note('close'), ...change(batch, o) }
      },
    },
  }
}

/** A store whose jobs all complete asynchronously: those that were started wait for `end`. */
function unhurried(change: Partial<Batch> = {}): {
  readonly store: BlockStore
  readonly waiting: readonly number[]
  readonly end: (jobs: readonly number[]) => void
} {
  const waiting: number[] = []
  let o: StoreBatchOptions | undefined
  const { store } = batched((batch, options) => {
    o = options
    return {
      start(count) {
        waiting.push(...batch.jobs.list.slice(0, count))
        batch.start(count)
        return 0
      },
      ...change,
    }
  })
  const end = (jobs: readonly number[]): void => {
    for (const job of jobs) o?.done(job)
    o?.turned()
  }
  return { store, waiting, end }
}

test.each(['copy', 'map', 'persistent'] as const)(
  'data path %s: a job has its position on the store and its bytes in memory',
  async (dataPath) => {
    const seen: unknown[] = []
    const { store } = batched(({ jobs, start }, { capacity, memory }) => ({
      start(count) {
        for (const job of jobs.list.slice(0, count)) {
          const pieces = Array.from(
            { length: jobs.count[job] ?? 0 },
            (_, i) => job * capacity.pieces + i,
          )
          const bytes = pieces.flatMap((piece) => [
            ...new Uint8Array(memory, jobs.offset[piece], jobs.bytes[piece]),
          ])
          seen.push([
            jobs.operation[job],
            jobs.position[job],
            bytes.length,
            bytes.at(0),
            bytes.at(-1),
          ])
        }
        return start(count)
      },
    }))
    await using r = await rig({ store, dataPath })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, {
      dataPages: 2,
      persistent: dataPath === 'persistent',
    })
    const [first = 0, second = 0] = front.data.grefs
    front.data.bytes.fill(1, 0, 4096).fill(2, 4096)
    const segments = [
      { gref: first, first: 6, last: 7 },
      { gref: second, first: 0, last: 0 },
    ]
    expect(await front.exchange({ operation: BLKIF_OP.WRITE, sector: 5n, segments })).toMatchObject(
      [{ status: OKAY }],
    )
    expect(await front.exchange({ operation: BLKIF_OP.READ, sector: 61n, segments })).toMatchObject(
      [{ status: OKAY }],
    )
    expect(seen).toEqual([
      [1, 2560, 1536, 1, 2],
      [0, 31_232, 1536, expect.any(Number), expect.any(Number)],
    ])
  },
)

test('a request that moves no data is no job', async () => {
  const { store, calls } = batched()
  await using r = await rig({ store })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  await front.exchange(
    { operation: BLKIF_OP.WRITE },
    { operation: BLKIF_OP.FLUSH_DISKCACHE, segments: [] },
    { operation: BLKIF_OP.READ },
  )
  // A barrier waits for the write, and the read for the barrier.
  await front.exchange(
    { operation: BLKIF_OP.WRITE },
    { operation: BLKIF_OP.WRITE_BARRIER },
    { operation: BLKIF_OP.READ },
  )
  expect(calls).toEqual(['flush', 'start 2', 'start 1', 'flush', 'write', 'flush', 'start 1'])
  await front[Symbol.asyncDispose]()
  await r.stop()
  expect(calls.at(-1)).toBe('close')
})

test('asynchronous jobs are answered when they complete, in any order', async () => {
  const { store, waiting, end } = unhurried()
  await using r = await rig({ store })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  for (const id of [1n, 2n, 3n]) front.put({ id })
  front.send()
  await expect.poll(() => waiting.length).toBe(3)
  end(waiting.toReversed())
  expect(await front.responses(3)).toMatchObject([3n, 2n, 1n].map((id) => ({ id, status: OKAY })))
})

test('`proceed` is called once at the end of a turn, only if jobs were deferred', async () => {
  let putsOff = true
  const { store, calls } = batched((batch, { done, turned }) => {
    const putOff: number[] = []
    return {
      start(count) {
        const atOnce = batch.start(count)
        if (!putsOff) return atOnce
        putOff.push(...batch.jobs.list.slice(0, count))
        return 0
      },
      proceed() {
        calls.push('proceed')
        for (const job of putOff.splice(0)) done(job)
        turned()
      },
    }
  })
  await using r = await rig({ store })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  const requests = Array.from({ length: 20 }, (_, id) => ({ id: BigInt(id) }))
  expect(await front.exchange(...requests)).toHaveLength(20)
  expect(calls).toEqual(['start 8', 'start 8', 'start 4', 'proceed'])
  putsOff = false
  expect(await front.exchange(...requests)).toHaveLength(20)
  expect(calls.slice(4)).toEqual(['start 8', 'start 8', 'start 4'])
})

test("a batch that can't proceed: the disk is closed when its jobs are complete", async () => {
  const broken = new Error('broken')
  const { store, waiting, end } = unhurried({
    proceed() {
      throw broken
    },
  })
  await using r = await rig({ store })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  await front.device.connected()
  for (const id of [1n, 2n]) front.put({ id })
  front.send()
  await r.event(({ kind }) => kind === 'failed')
  expect(r.events.find(({ kind }) => kind === 'failed')?.error).toBe(broken)
  end(waiting)
  await front.device.backendClosing()
  await front[Symbol.asyncDispose]()
  await r.stop()
})

test('a short job, a failed one and a call that throws are errors of their own', async () => {
  const outcomes: ((job: number, batch: Batch) => void)[] = [
    (job, { jobs }) => void (jobs.result[job] = 512),
    (job, { jobs }) => void (jobs.result[job] = -28),
    (job, { jobs }) => void (jobs.result[job] = -5),
    () => {
      throw new Error('no memory')
    },
    () => {},
  ]
  const { store } = batched((batch) => ({
    start(count) {
      const done = batch.start(count)
      outcomes.shift()?.(batch.jobs.list[0] ?? 0, batch)
      return done
    },
    error(result) {
      if (result === -5) throw new Error('no name for 5')
      return new Error(`errno ${-result}`)
    },
  }))
  await using r = await rig({ store })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  const statuses: (number | undefined)[] = []
  while (outcomes.length > 0) statuses.push((await front.exchange({}))[0]?.status)
  expect(statuses).toEqual([ERROR, ERROR, ERROR, ERROR, OKAY])
  // Only the first one within a second is reported.
  expect(
    r.events.flatMap((event) => (event.kind === 'store-failed' ? [String(event.error)] : [])),
  ).toEqual(['RangeError: the store moved 512 of 4096 bytes'])
})
