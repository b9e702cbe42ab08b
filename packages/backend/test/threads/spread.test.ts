/** How rings are spread over threads, by threads that accept everything. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Workers } from '../../src/index.ts'
import type { RingNews, RingOrders } from '../../src/threads/messages.ts'

/** Spreads the rings of devices over threads. @returns how many rings each thread got */
async function spread(threads: number, devices: readonly number[]): Promise<number[][]> {
  const given = devices.map((): number[] => Array.from({ length: threads }, () => 0))
  const channels = Array.from({ length: threads }, () => new MessageChannel())
  let device = 0
  for (const [thread, { port2 }] of channels.entries()) {
    port2.on('message', ({ port, config: rings }: RingOrders<readonly number[]>) => {
      const row = given[device] ?? []
      row[thread] = rings.length
      const tell = (news: RingNews<never>): void => port.postMessage(news)
      port.on('message', () => tell({ kind: 'closed', error: undefined }))
      tell({ kind: 'connected' })
    })
  }
  const workers = new Workers(
    channels.map(({ port1 }) => ({
      port: port1,
      ended: new Promise(() => {}),
      async [Symbol.asyncDispose]() {
        port1.close()
      },
    })),
  )
  const connections = []
  for (const [i, queues] of devices.entries()) {
    device = i
    const ignore = (): void => {}
    connections.push(
      await workers.connect({
        host: 'any',
        rings: Array.from({ length: queues }, (_, ring) => ring),
        config: (rings) => rings,
        failed: ignore,
        told: ignore,
        released: ignore,
        abandon: new AbortController().signal,
      }),
    )
  }
  for (const connection of connections) await connection.close({ frontend: 'gone' })
  await workers[Symbol.asyncDispose]()
  return given
}

test('rings of a device go to different threads, evenly up to one ring', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 }),
      async (threads, devices) => {
        const given = await spread(threads, devices)
        expect(given.map((row) => row.reduce((sum, rings) => sum + rings, 0))).toEqual(devices)
        const totals = Array.from({ length: threads }, (_, thread) =>
          given.reduce((sum, row) => sum + (row[thread] ?? 0), 0),
        )
        expect(Math.max(...totals) - Math.min(...totals)).toBeLessThanOrEqual(1)
        for (const [i, row] of given.entries()) {
          expect(row.filter((rings) => rings > 0)).toHaveLength(Math.min(threads, devices[i] ?? 0))
        }
      },
    ),
    { numRuns: 30 },
  )
})
