/** Which thread serves which ring, with threads that say yes to everything. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type RingNews, type RingOrders } from '../../src/backend/ring-messages.ts'
import { RingThreads } from '../../src/backend/ring-threads.ts'
import { DiskCounters } from '../../src/backend/stats.ts'
import { shareLimits } from '../../src/backend/limits.ts'

/** @returns the numbers of rings that each of so many threads was given */
async function spread(threads: number, disks: readonly number[]): Promise<number[][]> {
  const given = disks.map((): number[] => Array.from({ length: threads }, () => 0))
  const channels = Array.from({ length: threads }, () => new MessageChannel())
  let disk = 0
  for (const [thread, { port2 }] of channels.entries()) {
    port2.on('message', ({ port, frontend }: RingOrders) => {
      const row = given[disk] ?? []
      row[thread] = frontend.rings.length
      const tell = (news: RingNews): void => port.postMessage(news)
      port.on('message', () => tell({ kind: 'closed', error: undefined }))
      tell({ kind: 'connected' })
    })
  }
  const ringThreads = new RingThreads(
    channels.map(({ port1 }) => ({ port: port1, ended: new Promise(() => {}) })),
  )
  const connections = []
  for (const [i, queues] of disks.entries()) {
    disk = i
    const frontend = {
      rings: Array.from({ length: queues }, (_, port) => ({ grefs: [], port })),
      abi: 'x86_64',
      persistent: true,
      largeSectors: false,
    } as const
    const limits = shareLimits({
      sectors: 8,
      sectorMask: 0,
      writable: true,
      flush: true,
      discard: true,
      secureDiscard: false,
    })
    const store = { module: '', data: undefined, [Symbol.dispose]: () => {} }
    const [failed, { signal: abandon }] = [(): void => {}, new AbortController()]
    const told = { failed, storeFailed: failed, abandon, counters: new DiskCounters() }
    const options = { domid: 1, frontend, store, limits, dataPath: 'copy', ...told } as const
    connections.push(await ringThreads.connect(options))
  }
  for (const connection of connections) await connection.close({ frontend: 'gone' })
  for (const { port1 } of channels) port1.close()
  return given
}

test('rings of one disk go to different threads, and no thread has two more than another', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 }),
      async (threads, disks) => {
        const given = await spread(threads, disks)
        expect(given.map((row) => row.reduce((sum, rings) => sum + rings, 0))).toEqual(disks)
        const totals = Array.from({ length: threads }, (_, thread) =>
          given.reduce((sum, row) => sum + (row[thread] ?? 0), 0),
        )
        expect(Math.max(...totals) - Math.min(...totals)).toBeLessThanOrEqual(1)
        for (const [i, row] of given.entries()) {
          expect(row.filter((rings) => rings > 0)).toHaveLength(Math.min(threads, disks[i] ?? 0))
        }
      },
    ),
    { numRuns: 30 },
  )
})
