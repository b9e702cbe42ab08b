/**
 * Tests of batches, the part of the block engine that is JavaScript, with the real addon.
 * native/test tests the rest of the engine.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadNative } from '@xenkit/native'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { HeapMeter } from '../../../bench/src/heap-meter.ts'
import { until } from '../../../native/test/fifo.ts'
import { canStall, StallingDisk } from '../../../native/test/stalling-disk.ts'
import { type FileBatchOptions, type ImageBatch, openFileBatch } from '../src/block-engine.ts'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-batch-'))
afterAll(() => rmSync(folder, { recursive: true }))
afterEach(() => vi.restoreAllMocks())

function open(o: Omit<FileBatchOptions, 'direct'>): ImageBatch {
  const batch = openFileBatch()?.({ ...o, direct: false })
  if (batch === undefined) throw new Error('the addon is not built')
  return batch
}

/** Writes a job into the columns of the batch's table, and adds it to the list of jobs to start. */
function describe(
  { jobs }: ImageBatch,
  job: number,
  o: { readonly operation: number; readonly position: number; readonly count: number },
): void {
  jobs.list[job] = job
  jobs.operation[job] = o.operation
  jobs.position[job] = o.position
  jobs.count[job] = o.count
}

function addPiece(
  { jobs }: ImageBatch,
  at: number,
  o: { readonly offset: number; readonly bytes: number },
): void {
  jobs.offset[at] = o.offset
  jobs.bytes[at] = o.bytes
}

test('32 reads and writes of an image are one call', async () => {
  const path = join(folder, 'disk.img')
  writeFileSync(path, Buffer.alloc(32 * 4096, 'xenkit'))
  const submitted: number[] = []
  const engine = loadNative().BlockEngine.prototype
  const { createSubmit } = engine
  vi.spyOn(engine, 'createSubmit').mockImplementation(function (
    this: InstanceType<ReturnType<typeof loadNative>['BlockEngine']>,
  ) {
    const submit = createSubmit.call(this)
    return (table: number, count: number) => (submitted.push(count), submit(table, count))
  })
  const results = new Map<number, number>()
  const fd = openSync(path, 'r+')
  const done = (job: number): void => void results.set(job, batch.jobs.result[job] ?? 0)
  const batch = open({
    fd,
    memory: new ArrayBuffer(32 * 4096),
    capacity: { jobs: 32, pieces: 2 },
    done,
    turned() {},
  })
  closeSync(fd)
  for (let job = 0; job < 32; job++) {
    describe(batch, job, { operation: job % 2, position: job * 4096, count: 2 })
    for (const half of [0, 1]) {
      addPiece(batch, job * 2 + half, { offset: job * 4096 + half * 2048, bytes: 2048 })
    }
  }
  const atOnce = batch.start(32)
  batch.proceed()
  for (const job of batch.jobs.list.subarray(0, atOnce)) done(job)
  expect(submitted).toEqual([32])
  // Transfers that must wait for a disk complete asynchronously.
  await until(() => results.size === 32)
  expect([...results.values()]).toEqual(Array.from({ length: 32 }, () => 4096))
  batch.close()
})

// Mounting the stalling disk needs /dev/fuse and the right to mount; `canStall` checks both.
test.skipIf(!canStall())(
  'completed jobs are reported while others of the same batch stall',
  async () => {
    await using disk = await StallingDisk.mount(4096)
    const fd = openSync(disk.path, 'r+')
    const done: (readonly [number, number])[] = []
    let turns = 0
    const batch = open({
      fd,
      memory: new SharedArrayBuffer(8192, { maxByteLength: 8192 }),
      capacity: { jobs: 2, pieces: 1 },
      done: (job) => done.push([job, batch.jobs.result[job] ?? 0]),
      turned: () => turns++,
    })
    for (const job of [0, 1]) {
      describe(batch, job, { operation: 1, position: job * 4096, count: 1 })
      addPiece(batch, job, { offset: job * 4096, bytes: 4096 })
    }
    expect(batch.start(2)).toBe(0)
    batch.proceed()
    await until(() => done.length > 0 && disk.requests.includes('write'))
    expect([done, turns]).toEqual([[[0, 4096]], 1])
    disk.go()
    await until(() => done.length > 1)
    expect([done[1], turns]).toEqual([[1, 4096], 2])
    batch.close()
    closeSync(fd)
    await until(() => loadNative().counters().polls === 0)
  },
)

test('a read from the page cache takes less than a byte of heap', async () => {
  const [requests, depth] = [1_000_000, 32]
  const path = join(folder, 'cached.img')
  writeFileSync(path, Buffer.alloc(depth * 512, 'xenkit'))
  const fd = openSync(path, 'r')
  let moved = 0
  const done = (job: number): void => void (moved += batch.jobs.result[job] ?? 0)
  const batch = open({
    fd,
    memory: new ArrayBuffer(depth * 512),
    capacity: { jobs: depth, pieces: 1 },
    done,
    turned() {},
  })
  closeSync(fd)
  const { list } = batch.jobs
  const meter = new HeapMeter()
  const million = async (): Promise<number> => {
    moved = 0
    meter.begin()
    for (let started = 0; started < requests; started += depth) {
      for (let job = 0; job < depth; job++) {
        describe(batch, job, { operation: 0, position: job * 512, count: 1 })
        addPiece(batch, job, { offset: job * 512, bytes: 512 })
      }
      const atOnce = batch.start(depth)
      batch.proceed()
      for (let i = 0; i < atOnce; i++) done(list[i] ?? 0)
    }
    await until(() => moved === requests * 512)
    return meter.end()
  }
  // Repeat until V8 has compiled all the code. How long that takes depends on when its compiler
  // thread gets a processor.
  let millions = 1
  while ((await million()) >= requests && millions < 6) millions++
  expect(millions).toBeLessThan(6)
  batch.close()
})
