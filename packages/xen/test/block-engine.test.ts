/** How often batches of transfers call the addon, which here is the real one. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadNative } from '@xenkit/native'
import { afterAll, expect, test, vi } from 'vitest'
import { openFileBatch } from '../src/block-engine.ts'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-batch-'))
afterAll(() => rmSync(folder, { recursive: true }))

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
  while (results.size < 32) await new Promise(setImmediate)
  expect([...results.values()]).toEqual(Array.from({ length: 32 }, () => 4096))
  batch.close()
})
