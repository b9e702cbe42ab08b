/**
 * Frontend and backend together: a guest's reads and writes are compared with an array of bytes.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { rig } from '../support/rig.ts'

const abis = ['x86_64', 'x86_32', 'arm'] as const

describe.each(abis)('%s', (abi) => {
  test.each([0, 1, 2, 3, 4])(
    'ring of order %i: data of any size is read back as written',
    async (ringPageOrder) => {
      const store = memoryStore(1024)
      await using r = await rig({ store })
      await r.plug()
      await using disk = await openVbd(r.guest, { vdev: 'xvda', abi, ringPageOrder, depth: 64 })
      expect(disk.sectors).toBe(1024)
      const model = new Uint8Array(1024 * 512)
      const operation = fc.record({
        write: fc.boolean(),
        sector: fc.nat(1023),
        sectors: fc.integer({ min: 1, max: 300 }),
        fill: fc.integer({ min: 1, max: 255 }),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 12 }), async (operations) => {
          for (const { write, sector, sectors, fill } of operations) {
            const length = Math.min(sectors, 1024 - sector) * 512
            if (write) {
              model.fill(fill, sector * 512, sector * 512 + length)
              await disk.write(sector, [new Uint8Array(length).fill(fill)])
            } else {
              const got = new Uint8Array(length)
              await disk.read(sector, [got])
              expect(Buffer.compare(got, model.subarray(sector * 512, sector * 512 + length))).toBe(
                0,
              )
            }
          }
          await disk.flush()
        }),
        { numRuns: 20 },
      )
      expect(Buffer.compare(store.bytes, model)).toBe(0)
    },
  )
})

test('many requests in flight, more than the ring has slots, are all answered', async () => {
  const store = memoryStore(4096)
  for (let i = 0; i < store.bytes.length; i++) store.bytes[i] = (i >> 9) & 255
  await using r = await rig({ store })
  await r.plug()
  await using disk = await openVbd(r.guest, { vdev: 'xvda' })
  const reads = Array.from({ length: 1000 }, async (_, i) => {
    const sector = (i * 37) % 4096
    const got = new Uint8Array(512)
    await disk.read(sector, [got])
    expect(got[0]).toBe(sector & 255)
    expect(got[511]).toBe(sector & 255)
  })
  await Promise.all(reads)
})
