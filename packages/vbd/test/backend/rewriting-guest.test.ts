/**
 * A guest rewrites its disk from many places at once while the threads that serve its rings are
 * killed. Every request ends, and the guest gets its disk again while a thread is left, and after
 * that too.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type Disk, openVbd } from '../../src/index.ts'
import { rig } from '../support/rig.ts'
import { sharedMemoryStore } from '../support/threads/shared-memory-store.ts'

/** Number of a guest's writers, each with a part of the disk of its own. */
const WRITERS = 24
const PART = 16
const THREADS = 4
/** No step of a round takes a second: a longer wait is reported as a hang. */
const WATCHDOG_MS = 20_000

/** Fails with the guest's state if nothing has happened for too long. */
async function watched<T>(what: string, promise: Promise<T>, state: () => object): Promise<T> {
  const end = new AbortController()
  const bark = sleep(WATCHDOG_MS, undefined, { signal: end.signal }).then(() => {
    throw new Error(`${what} hangs: ${JSON.stringify(state())}`)
  })
  try {
    return await Promise.race([promise, bark])
  } finally {
    end.abort()
    bark.catch(() => {})
  }
}

/** Writes and reads back until a request fails, as it does when the disk closes. */
async function rewrite(
  disk: Disk,
  part: number,
  mark: number,
  counts: { requests: number },
): Promise<void> {
  const written = new Uint8Array(PART * 512)
  const read = new Uint8Array(written.length)
  for (let i = 0; ; i++) {
    written.fill(mark + part + i)
    await disk.write(part * PART, [written])
    await disk.read(part * PART, [read])
    if (Buffer.compare(written, read) !== 0) {
      throw new RangeError(`part ${part} reads back other than written`)
    }
    counts.requests += 2
  }
}

test(
  'threads die one after the other: no request is lost, no write is torn, nothing hangs',
  { timeout: 120_000 },
  async () => {
    const store = sharedMemoryStore(WRITERS * PART)
    await using r = await rig({ store, threads: THREADS })
    await r.plug()
    const counts = { requests: 0 }
    const state = (): object => ({
      ...counts,
      events: r.events.map(({ kind }) => kind),
      users: store.users(),
    })
    for (let life = 0; life <= THREADS; life++) {
      const disk = await watched(
        'attaching',
        openVbd(r.guest, { vdev: 'xvda', queues: 4, depth: 8 }),
        state,
      )
      const before = counts.requests
      const writers = Array.from({ length: WRITERS }, (_, part) =>
        rewrite(disk, part, life * 31, counts),
      )
      const ended = Promise.allSettled(writers)
      const busy = async (): Promise<void> => {
        while (counts.requests < before + 500 * (1 + Math.random())) await new Promise(setImmediate)
      }
      await watched('writing', Promise.race([busy(), ended]), state)
      // The last connection is served by the server's own thread alone.
      if (life < THREADS) r.threads[life]?.fail()
      else void disk.close()
      for (const result of await watched('ending', ended, state)) {
        expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ERR_XEN_DISK' } })
      }
      await watched('closing', disk.close(), state)
    }
    expect(r.events.filter(({ kind }) => kind === 'failed')).toHaveLength(THREADS)
    expect(store.users()).toBe(0)
  },
)
