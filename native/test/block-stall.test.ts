/** A disk that doesn't answer delays its own jobs, but no others. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, describe, expect, test } from 'vitest'
import { kinds, native, operations, TestEngine, type Job } from './block-engine.ts'
import { until } from './fifo.ts'
import { canStall, StallingDisk } from './stalling-disk.ts'

const directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
const quick = join(directory, 'image')
writeFileSync(quick, Buffer.alloc(65_536, 7))

afterAll(() => rmSync(directory, { recursive: true }))

// Skipped where the process can't mount a FUSE file system: it needs /dev/fuse and the right to
// mount.
describe.skipIf(!canStall()).each(kinds)('with %s', (kind) => {
  test.each(['read', 'write', 'flush'] as const)(
    'while a %s waits, the event loop runs and other jobs complete',
    async (operation) => {
      await using disk = await StallingDisk.mount()
      await using engine = new TestEngine({ kind })
      const [slowFd, quickFd] = [openSync(disk.path, 'r+'), openSync(quick, 'r+')]
      const [slow, fine] = [engine.engine.open(slowFd), engine.engine.open(quickFd)]
      const vectors = [[0, 4096]] as const
      let answered = false
      const job: Job =
        operation === 'flush'
          ? { file: slow, operation }
          : { file: slow, operation, position: 8192, vectors }
      const waits = engine.run([job]).then((outcomes) => {
        answered = true
        return outcomes
      })
      // The disk's process reports each waiting request by a message, which arrives through the
      // event loop.
      await until(() => disk.requests.includes(operation))
      const others = await engine.run([
        { file: fine, operation: 'read', vectors: [[4096, 4096]] },
        { file: fine, operation: 'write', vectors: [[4096, 4096]] },
        { file: fine, operation: 'flush' },
      ])
      expect(others.map(({ result }) => result)).toEqual([4096, 4096, 0])
      expect(answered).toBe(false)
      expect(native.counters().jobs).toBe(1)
      disk.go()
      expect(await waits).toEqual([{ result: operation === 'flush' ? 0 : 4096, atOnce: false }])
      if (operation === 'read') expect([...engine.memory.subarray(255, 257)]).toEqual([32, 33])
      for (const fd of [slowFd, quickFd]) closeSync(fd)
    },
  )

  test('one thread performs the writes of a file in order, others the other jobs', async () => {
    await using disk = await StallingDisk.mount(8192)
    await using engine = new TestEngine({ kind })
    const fd = openSync(disk.path, 'r+')
    const file = engine.engine.open(fd)
    const write = (position: number): Job => ({
      file,
      operation: 'write',
      position,
      vectors: [[0, 4096]],
    })
    const [before, stalls, behind] = [
      engine.run([write(0), write(4096)]),
      engine.run([write(8192)]),
      engine.run([write(0)]),
    ]
    await until(() => disk.requests.includes('write'))
    expect(
      (await engine.run([{ file, operation: 'read', vectors: [[4096, 4096]] }]))[0],
    ).toMatchObject({ result: 4096 })
    expect(await before).toEqual([
      { result: 4096, atOnce: false },
      { result: 4096, atOnce: false },
    ])
    expect(native.counters().jobs).toBe(2)
    disk.go()
    expect(await Promise.all([stalls, behind])).toEqual([
      [{ result: 4096, atOnce: false }],
      [{ result: 4096, atOnce: false }],
    ])
    closeSync(fd)
  })

  test('a terminated worker waits for its jobs', async () => {
    await using disk = await StallingDisk.mount()
    const worker = new Worker(new URL('block-worker.mjs', import.meta.url), {
      workerData: {
        kind,
        jobs: 1,
        operation: operations.read,
        path: disk.path,
        flags: 'r+',
        end: 'terminate',
        proceeds: true,
      },
    })
    await until(() => disk.requests.includes('read'))
    let ended = false
    const end = worker.terminate().then(() => (ended = true))
    // Until the disk answers, the kernel may still write to the worker's memory, so the worker
    // can't end.
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setTimeout(resolve, 1))
    expect(ended).toBe(false)
    expect(native.counters()).toMatchObject({ fds: 1, jobs: 1, polls: 1, arenas: 1 })
    disk.go()
    await end
    expect(native.counters()).toMatchObject({ fds: 0, jobs: 0, polls: 0, arenas: 0 })
  })
})
