/**
 * When an environment ends, however that happens, its jobs in flight complete first. Then
 * everything that it opened is closed.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, describe, expect, test } from 'vitest'
import { kinds, native, operations } from './block-engine.ts'

const ROUNDS = 3
const JOBS = 32
const directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
const path = join(directory, 'image')
const nothing = {
  fds: 0,
  mappings: 0,
  shares: 0,
  ports: 0,
  polls: 0,
  arenas: 0,
  jobs: 0,
  images: 0,
}
{
  const fd = openSync(path, 'w')
  writeSync(fd, Buffer.alloc(JOBS * 65_536, 1))
  fsyncSync(fd)
  closeSync(fd)
}

afterAll(() => rmSync(directory, { recursive: true }))

// Direct reads wait for the disk, and buffered writes wait for a thread. So jobs of both kinds are
// incomplete when `submit` returns, whether the engine has started or deferred them.
describe.each(kinds)('with %s', (kind) => {
  describe.each([
    { operation: operations.read, flags: constants.O_RDWR | constants.O_DIRECT },
    { operation: operations.write, flags: constants.O_RDWR },
    { operation: operations.write, flags: constants.O_RDWR | constants.O_DIRECT },
  ])('jobs $operation, flags $flags', ({ operation, flags }) => {
    test.each(['close', 'exit', 'terminate', 'exit in a callback', 'throw in a callback'])(
      'a worker that ends by %s',
      async (end) => {
        let inFlight = 0
        for (let round = 0; round < ROUNDS; round++) {
          // To end within a callback, the worker needs a completed job, so it calls `proceed`. In
          // the other cases the end itself starts the deferred jobs.
          const proceeds = end.endsWith('callback')
          const worker = new Worker(new URL('block-worker.mjs', import.meta.url), {
            workerData: { kind, jobs: JOBS, operation, path, flags, end, proceeds },
          })
          const failed: unknown[] = []
          worker.on('error', (error) => failed.push(error))
          worker.on('message', (done: number) => (inFlight += JOBS - done))
          const ended = new Promise((resolve) => worker.once('exit', resolve))
          if (end === 'terminate') {
            await once(worker, 'message')
            await worker.terminate()
          }
          await ended
          expect(failed).toEqual(end.startsWith('throw') ? [new Error('wanted')] : [])
          expect(native.counters()).toEqual(nothing)
        }
        expect(inFlight).toBeGreaterThan(0)
      },
    )
  })
})

describe('a process', () => {
  async function run(body: string): Promise<number> {
    const prelude = `
      import { openSync } from 'node:fs'
      import { loadNative } from ${JSON.stringify(new URL('../index.js', import.meta.url).href)}
      import { openTable } from ${JSON.stringify(new URL('open-table.mjs', import.meta.url).href)}
      const memory = new Uint8Array(65536)
      const end = () => { process.exitCode = 3 }
      const engine = new (loadNative().BlockEngine)(memory, end, process.argv[2])
      const table = openTable(engine)
      table.file[0] = engine.open(openSync(process.argv[1], 'r+'))
      table.operation[0] = ${operations.flush}
      const flush = () => engine.createSubmit()(table.number, 1)`
    const child = spawn(
      process.execPath,
      ['--input-type=module', '-e', `${prelude}\n${body}`, path],
      { stdio: 'inherit', timeout: 20_000 },
    )
    const [code, signal]: unknown[] = await once(child, 'exit')
    expect(signal).toBeNull()
    return Number(code)
  }

  test('is not kept alive by an engine without jobs', async () => expect(await run('')).toBe(0))
  test('is kept alive by a job in flight', async () =>
    expect(await run('flush(); engine.proceed()')).toBe(3))
  test('gets the completion of a job in flight when its engine is closed', async () =>
    expect(await run('flush(); engine.close()')).toBe(3))
  test('may exit with a job in flight', async () =>
    expect(await run('flush(); engine.proceed(); process.exit(5)')).toBe(5))
})
