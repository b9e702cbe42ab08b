/** What the engine's JavaScript adds to native/test: batches. */
import { closeSync, openSync } from 'node:fs'
import { loadNative } from '@xenkit/native'
import { expect, test } from 'vitest'
import { until } from '../../../native/test/fifo.ts'
import { canStall, StallingDisk } from '../../../native/test/stalling-disk.ts'
import { openFileBatch } from '../src/block-engine.ts'

const SECTORS = 8

// A process without /dev/fuse or the right to mount can't have such a disk: both are checked.
test.skipIf(!canStall())('what is done is told of while what came with it stalls', async () => {
  await using disk = await StallingDisk.mount(4096)
  const fd = openSync(disk.path, 'r+')
  const done: (readonly [number, number])[] = []
  let turns = 0
  const batch = openFileBatch()?.({ fd, direct: false, memory: new SharedArrayBuffer(8192, { maxByteLength: 8192 }), done: (tag, result) => done.push([tag, result]), turned: () => turns++ })
  if (batch === undefined) throw new Error('the addon is not built')
  for (const tag of [0, 1]) {
    expect(batch.add(tag, true, tag * SECTORS, 1)).toBe(true)
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
