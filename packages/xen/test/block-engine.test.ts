/** What the engine's JavaScript adds to native/test: batches. The addon is the real one. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadNative } from '@xenkit/native'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { HeapMeter } from '../../../bench/src/heap-meter.ts'
import { until } from '../../../native/test/fifo.ts'
import { canStall, StallingDisk } from '../../../native/test/stalling-disk.ts'
import { openFileBatch } from '../src/block-engine.ts'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-batch-'))
afterAll(() => rmSync(folder, { recursive: true }))
afterEach(() => vi.restoreAllMocks())

test('32 reads and writes of an image are one call, and none of nothing', async () => {
  const path = join(folder, 'disk.img')
  writeFileSync(path, Buffer.alloc(32 * 4096, 'xenkit'))
  const submitted: number[] = []
  const engine = loadNative().BlockEngine.prototype
  const { createSubmit } = engine
  vi.spyOn(engine, 'createSubmit').mockImplementation(function (this: InstanceType<ReturnType<typeof loadNative>['BlockEngine']>) {
    const submit = createSubmit.call(this)
    return (count: number) => (submitted.push(count), submit(count))
  })
  const results = new Map<number, number>()
  const fd = openSync(path, 'r+')
  const batch = openFileBatch()?.({ fd, direct: false, memory: new ArrayBuffer(32 * 4096), done: (tag, result) => void results.set(tag, result), turned() {} })
  closeSync(fd)
  if (!batch) throw new Error('the addon is not built')
  for (let row = 0; row < 32; row++) {
    batch.add(row, row % 2 === 1, row * 8, 2)
    for (const half of [0, 1]) batch.addVector(row * 4096 + half * 2048, 2048)
  }
  batch.submit()
  batch.submit()
  expect(submitted).toEqual([32])
  // What has to wait for a disk is told of later.
  await until(() => results.size === 32)
  expect([...results.values()]).toEqual(Array.from({ length: 32 }, () => 4096))
  batch.close()
})

// A process without /dev/fuse or the right to mount can't have such a disk: both are checked.
test.skipIf(!canStall())('what is done is told of while what came with it stalls', async () => {
  await using disk = await StallingDisk.mount(4096)
  const fd = openSync(disk.path, 'r+')
  const done: (readonly [number, number])[] = []
  let turns = 0
  const batch = openFileBatch()?.({ fd, direct: false, memory: new SharedArrayBuffer(8192, { maxByteLength: 8192 }), done: (tag, result) => done.push([tag, result]), turned: () => turns++ })
  if (batch === undefined) throw new Error('the addon is not built')
  for (const tag of [0, 1]) {
    expect(batch.add(tag, true, tag * 8, 1)).toBe(true)
    batch.addVector(tag * 4096, 4096)
  }
  batch.submit()
  await until(() => done.length > 0 && disk.requests.includes('write'))
  expect([done, turns]).toEqual([[[0, 4096]], 1])
  disk.go()
  await until(() => done.length > 1)
  expect([done[1], turns]).toEqual([[1, 4096], 2])
  batch.close()
  closeSync(fd)
  await until(() => loadNative().counters().polls === 0)
})

test('a read of what is in the page cache takes less than a byte of heap', async () => {
  const [requests, depth] = [1_000_000, 32]
  const path = join(folder, 'cached.img')
  writeFileSync(path, Buffer.alloc(depth * 512, 'xenkit'))
  const fd = openSync(path, 'r')
  let moved = 0
  const batch = openFileBatch()?.({ fd, direct: false, memory: new ArrayBuffer(depth * 512), done: (_, result) => void (moved += result), turned() {} })
  closeSync(fd)
  if (!batch) throw new Error('the addon is not built')
  const meter = new HeapMeter()
  const million = async (): Promise<number> => {
    moved = 0
    meter.begin()
    for (let submitted = 0; submitted < requests; submitted += depth) {
      for (let tag = 0; tag < depth; tag++) {
        batch.add(tag, false, tag, 1)
        batch.addVector(tag * 512, 512)
      }
      batch.submit()
    }
    await until(() => moved === requests * 512)
    return meter.end()
  }
  // Until all is compiled, which takes as long as the compiler's thread has to wait for a processor.
  let millions = 1
  while ((await million()) >= requests && millions < 6) millions++
  expect(millions).toBeLessThan(6)
  batch.close()
})
