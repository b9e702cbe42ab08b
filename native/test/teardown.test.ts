/**
 * When an environment ends, however that happens, everything that it opened is closed, and the
 * process survives.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { loadNative } from '../index.js'
import { Fifo } from './fifo.ts'

const native = loadNative()
const ROUNDS = 12
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

async function runWorker(end: string, quiet: Fifo, busy: Fifo): Promise<void> {
  const worker = new Worker(new URL('teardown-worker.mjs', import.meta.url), {
    workerData: { end, quiet: quiet.path, busy: busy.path },
  })
  const failed: unknown[] = []
  worker.on('error', (error) => failed.push(error))
  const ended = new Promise((resolve) => worker.once('exit', resolve))
  await once(worker, 'message')
  if (end === 'terminate') await worker.terminate()
  if (end.includes('callback')) busy.sendPorts(1)
  if (end === 'terminate in a callback') {
    await once(worker, 'message')
    await worker.terminate()
  }
  await ended
  expect(failed).toEqual(end.startsWith('throw') ? [new Error('wanted')] : [])
}

describe.each([
  'close',
  'exit',
  'terminate',
  'exit in a callback',
  'throw in a callback',
  'terminate in a callback',
])('a worker that ends by %s', (end) => {
  test(`leaves nothing open, ${ROUNDS} times`, async () => {
    using quiet = new Fifo()
    for (let round = 0; round < ROUNDS; round++) {
      using busy = new Fifo()
      await runWorker(end, quiet, busy)
    }
    expect(native.counters()).toEqual(nothing)
  })
})

test('several workers at once', async () => {
  using quiet = new Fifo()
  const run = async (end: string): Promise<void> => {
    using busy = new Fifo()
    await runWorker(end, quiet, busy)
  }
  await Promise.all(['exit', 'terminate', 'close', 'exit in a callback'].map(run))
  expect(native.counters()).toEqual(nothing)
})

describe('a process', () => {
  const prelude = `
    import { loadNative } from ${JSON.stringify(new URL('../index.js', import.meta.url).href)}
    const native = loadNative()
    const arena = new native.Arena(4096)
    const bytes = new Uint8Array(arena.createBuffer())
    const path = process.argv[1]
    const evtchn = new native.Evtchn(arena, path, arena.allocate(2), () => process.exit(4))`

  async function run(body: string): Promise<number> {
    using fifo = new Fifo()
    const child = spawn(
      process.execPath,
      ['--input-type=module', '-e', `${prelude}\n${body}`, fifo.path],
      { stdio: 'inherit', timeout: 20_000 },
    )
    const [code, signal]: unknown[] = await once(child, 'exit')
    expect(signal).toBeNull()
    return Number(code)
  }

  test('is not kept alive by a device without bound ports', async () =>
    expect(await run('')).toBe(0))

  test('is kept alive by an open stream, until it is closed', async () => {
    expect(
      await run(`
        const stream = new native.XenbusDevice(arena, path, arena.allocate(1), () => {})
        const closes = setTimeout(() => { process.exitCode = 3; stream.close() }, 100)
        closes.unref()`),
    ).toBe(3)
  })

  test('may exit with everything open', async () => {
    expect(
      await run(
        `setTimeout(() => {}, 10_000); new Uint32Array(bytes.buffer)[1024] = 7; evtchn.createUnmask()(1)`,
      ),
    ).toBe(4)
  })

  test('may end with everything open', async () => {
    expect(await run(`new native.Gntdev(arena, path); bytes[0] = 1; arena.allocate(1)`)).toBe(0)
  })
})
