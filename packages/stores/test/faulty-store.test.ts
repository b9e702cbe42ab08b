/** `faultyStore` makes exactly the calls fail that are planned to fail. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { openVbd } from '@xenkit/vbd'
import { type Fault, type StoreCall, faultyStore, memoryStore, randomFaults } from '../src/index.ts'
import { rig } from '../../vbd/test/support/rig.ts'
import { expectModelled, zeroed } from './support/model.ts'

const EIO = new Error('EIO')

test('without faults it reads as its base', async () => {
  await expectModelled({
    store: faultyStore(memoryStore(300), () => undefined),
    discarded: zeroed,
    numRuns: 10,
  })
})

test('the plan sees every call', async () => {
  const seen: Omit<StoreCall, 'buffers'>[] = []
  const store = faultyStore(
    memoryStore(64),
    ({ kind, sector, bytes }) => void seen.push({ kind, sector, bytes }),
  )
  await store.read(1, [new Uint8Array(100), new Uint8Array(412)])
  await store.write?.(2, [new Uint8Array(1024)])
  await store.flush?.()
  await store.discard?.(8, 16, { secure: false })
  expect(seen).toEqual([
    { kind: 'read', sector: 1, bytes: 512 },
    { kind: 'write', sector: 2, bytes: 1024 },
    { kind: 'flush', sector: 0, bytes: 0 },
    { kind: 'discard', sector: 8, bytes: 8192 },
  ])
})

test("an error fails the call; a read, flush or discard doesn't reach the store", async () => {
  const memory = memoryStore(new Uint8Array(4096).fill(7))
  const store = faultyStore(memory, () => ({ error: EIO }))
  const buffer = new Uint8Array(512)
  await expect(store.read(0, [buffer])).rejects.toBe(EIO)
  expect(buffer[0]).toBe(0)
  await expect(store.flush?.()).rejects.toBe(EIO)
  await expect(store.discard?.(0, 8, { secure: false })).rejects.toBe(EIO)
  expect(memory.bytes.every((byte) => byte === 7)).toBe(true)
  await expect(store.write?.(0, [new Uint8Array(512).fill(8)])).rejects.toBe(EIO)
  expect(memory.bytes[0]).toBe(8)
})

test('a torn write ends at a whole sector, with or without an error', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 3000 }), fc.boolean(), async (tornAt, told) => {
      const memory = memoryStore(8)
      const store = faultyStore(memory, () => ({ tornAt, ...(told ? { error: EIO } : {}) }))
      const writing = store.write?.(1, [new Uint8Array(700).fill(1), new Uint8Array(1348).fill(1)])
      if (told) await expect(writing).rejects.toBe(EIO)
      else await writing
      const written = Math.min(Math.floor(tornAt / 512), 4)
      expect(memory.bytes.findLastIndex((byte) => byte === 1)).toBe(
        written === 0 ? -1 : 511 + written * 512,
      )
    }),
  )
})

test('a flipped bit is in what was read, not in the store', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(1024 * 8 - 1), async (flippedBit) => {
      const memory = memoryStore(8)
      const buffers = [new Uint8Array(100), new Uint8Array(924)]
      await faultyStore(memory, () => ({ flippedBit })).read(0, buffers)
      const got = Buffer.concat(buffers)
      expect(got[flippedBit >> 3]).toBe(1 << (flippedBit & 7))
      expect(got.filter((byte) => byte !== 0)).toHaveLength(1)
      expect(memory.bytes.every((byte) => byte === 0)).toBe(true)
    }),
  )
})

test('a delay holds up no other call', async () => {
  const order: number[] = []
  let first = true
  const store = faultyStore(memoryStore(8), () => {
    const fault: Fault = first ? { delayMs: 30 } : {}
    first = false
    return fault
  })
  await Promise.all(
    [0, 1].map(async (i) => {
      await store.read(0, [new Uint8Array(512)])
      order.push(i)
    }),
  )
  expect(order).toEqual([1, 0])
})

test('random faults: the same for one seed, about as frequent as requested', () => {
  const calls = Array.from({ length: 4000 }, (_, i): StoreCall => ({
    kind: i % 2 === 0 ? 'read' : 'write',
    sector: i,
    bytes: 4096,
    buffers: [],
  }))
  const odds = { errors: 0.1, tornWrites: 0.2, flippedBits: 0.3, delays: 0.4, longestDelayMs: 50 }
  const faults = (seed: number): (Fault | undefined)[] => calls.map(randomFaults({ seed, ...odds }))
  const got = faults(42)
  expect(faults(42)).toEqual(got)
  expect(faults(43)).not.toEqual(got)
  const share = (fits: (fault: Fault) => boolean, of: number): number =>
    got.filter((fault) => fault && fits(fault)).length / of
  expect(share(({ delayMs }) => delayMs !== undefined, 4000)).toBeCloseTo(0.4, 1)
  expect(share(({ tornAt }) => tornAt !== undefined, 2000)).toBeCloseTo(0.2, 1)
  expect(share(({ flippedBit }) => flippedBit !== undefined, 2000)).toBeCloseTo(0.3, 1)
  expect(
    share(({ error, tornAt }) => error !== undefined && tornAt === undefined, 4000),
  ).toBeCloseTo(0.1, 1)
  expect(
    got.every(
      (fault) =>
        (fault?.delayMs ?? 0) < 50 &&
        (fault?.tornAt ?? 0) < 4096 &&
        (fault?.flippedBit ?? 0) < 4096 * 8,
    ),
  ).toBe(true)
  expect(
    calls
      .map(randomFaults({ seed: 42 }))
      .every((fault) => fault && Object.keys(fault).length === 0),
  ).toBe(true)
  expect(() => randomFaults({ seed: 0 })).toThrow(RangeError)
  expect(() => randomFaults({ seed: 1, errors: 1.5 })).toThrow(/"errors" expected odds/)
})

test('a guest of a bad disk sees errors, and its disk lives on', async () => {
  let bad = true
  const store = faultyStore(memoryStore(64), () => (bad ? { error: EIO } : undefined))
  await using r = await rig({ store })
  await r.plug()
  await using disk = await openVbd(r.guest, { vdev: 'xvda' })
  await expect(disk.read(0, [new Uint8Array(512)])).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  await expect(disk.write(0, [new Uint8Array(512)])).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  expect((await r.event(({ kind }) => kind === 'store-failed')).error).toBe(EIO)
  bad = false
  await disk.write(0, [new Uint8Array(512).fill(1)])
  await disk.read(0, [new Uint8Array(512)])
})
