/**
 * A disk against a model, an array of bytes. After any sequence of requests, good and bad, over any
 * number of queues, its answers and data are the model's.
 */
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { unplugVbd } from '../../src/index.ts'
import { RawFrontend, type RawRequest } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'
import { sharedMemoryStore } from '../support/threads/shared-memory-store.ts'

const { READ, WRITE, WRITE_BARRIER, FLUSH_DISKCACHE, DISCARD } = BLKIF_OP
const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP
const SECTORS = 512
const PAGES = 128

interface Segment {
  readonly first: number
  readonly last: number
}

interface Step {
  readonly operation: number
  readonly indirect: boolean
  readonly sector: number
  readonly segments: readonly Segment[]
  readonly discarded: number
  readonly queue: number
}

const segment = fc
  .tuple(fc.nat(7), fc.nat(7))
  .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }))
const badSegment = fc.constantFrom(
  { first: 3, last: 2 },
  { first: 0, last: 8 },
  { first: 9, last: 9 },
)
const step: fc.Arbitrary<Step> = fc.record({
  operation: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(READ, WRITE) },
    { weight: 3, arbitrary: fc.constantFrom(WRITE_BARRIER, FLUSH_DISKCACHE, DISCARD) },
    { weight: 1, arbitrary: fc.constantFrom(4, 7, 255) },
  ),
  indirect: fc.boolean(),
  sector: fc.oneof(
    { weight: 8, arbitrary: fc.nat(SECTORS) },
    { weight: 1, arbitrary: fc.constantFrom(2 ** 32, 2 ** 53) },
  ),
  segments: fc.array(
    fc.oneof({ weight: 40, arbitrary: segment }, { weight: 1, arbitrary: badSegment }),
    { maxLength: 14 },
  ),
  discarded: fc.nat(SECTORS),
  queue: fc.nat(3),
})

/** The answer that a step must get by blkif.h. */
function answerOf({ operation, indirect, sector, segments, discarded }: Step): number {
  if (operation === DISCARD && !indirect) {
    return discarded > 0 && sector + discarded <= SECTORS ? OKAY : ERROR
  }
  if (indirect && operation !== READ && operation !== WRITE) return ERROR
  if (![READ, WRITE, WRITE_BARRIER, FLUSH_DISKCACHE].some((known) => known === operation)) {
    return EOPNOTSUPP
  }
  if (segments.length === 0) return operation === READ || operation === WRITE ? ERROR : OKAY
  if (!indirect && segments.length > 11) return ERROR
  if (segments.some(({ first, last }) => first > last || last > 7)) return ERROR
  return sector + segments.reduce((sum, { first, last }) => sum + last - first + 1, 0) <= SECTORS
    ? OKAY
    : ERROR
}

/** Four rings over two threads, or one to three in the server's own. */
test.each([
  ['x86_64', 'copy', 0],
  ['x86_32', 'persistent', 0],
  ['arm', 'map', 0],
  ['x86_32', 'copy', 0],
  ['x86_64', 'copy', 2],
  ['x86_64', 'persistent', 2],
] as const)('%s, %s, by %i threads besides', async (abi, dataPath, threads) => {
  let store = sharedMemoryStore(SECTORS)
  // Threads take long to start, so one server is used for all runs, with a disk for each.
  await using r = await rig({ store: () => store, dataPath, threads })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { minLength: 1, maxLength: 9 }), { minLength: 1, maxLength: 6 }),
      threads > 0 ? fc.constant(4) : fc.integer({ min: 1, max: 3 }),
      fc.nat(255),
      async (batches, queues, seed) => {
        store = sharedMemoryStore(SECTORS)
        const model = new Uint8Array(SECTORS * 512)
        await r.plug()
        await using _disk = {
          [Symbol.asyncDispose]: () =>
            unplugVbd(r.xs, { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' }),
        }
        await using front = await RawFrontend.open(r.guest, {
          abi,
          queues,
          dataPages: PAGES,
          persistent: true,
        })
        // Expected contents of the guest's pages, which change only by its reads.
        const memory = front.data.bytes.slice()
        let mark = seed
        let id = 0n
        for (const batch of batches) {
          // Each step of a batch has pages of its own. Requests of one queue run in order.
          let page = 0
          const queue = (batch[0]?.queue ?? 0) % queues
          const expected = new Map<bigint, readonly [number, number]>()
          for (const each of batch) {
            const { operation, indirect, sector, segments, discarded } = each
            const pages = segments.map((_, i) => page + i)
            page += segments.length
            const request: RawRequest = {
              id: ++id,
              sector: BigInt(sector),
              segments: segments.map((range, i) => ({
                ...range,
                gref: front.data.grefs[pages[i] ?? 0] ?? 0,
              })),
              nr_sectors: BigInt(discarded),
              ...(indirect ? { indirect_op: operation } : { operation }),
            }
            const status = answerOf(each)
            expected.set(id, [operation, status])
            const writes =
              operation === WRITE || operation === WRITE_BARRIER || operation === FLUSH_DISKCACHE
            if (writes) {
              for (const own of pages) {
                front.data.bytes.fill(++mark, own * 4096, (own + 1) * 4096)
                memory.fill(mark, own * 4096, (own + 1) * 4096)
              }
            }
            front.put(request, queue)
            if (status !== OKAY) continue
            if (operation === DISCARD) model.fill(0, sector * 512, (sector + discarded) * 512)
            let at = sector * 512
            for (const [i, { first, last }] of segments.entries()) {
              if (operation === DISCARD) break
              const from = (pages[i] ?? 0) * 4096 + first * 512
              const bytes = (last - first + 1) * 512
              if (writes) model.set(memory.subarray(from, from + bytes), at)
              else memory.set(model.subarray(at, at + bytes), from)
              at += bytes
            }
          }
          front.send(queue)
          const answers = await front.responses(batch.length, queue)
          expect(answers).toHaveLength(batch.length)
          expect(
            new Map(
              answers.map(({ id: answered, operation, status }) => [answered, [operation, status]]),
            ),
          ).toEqual(expected)
          expect(Buffer.compare(store.bytes, model)).toBe(0)
          expect(Buffer.compare(front.data.bytes, memory)).toBe(0)
        }
      },
    ),
    { numRuns: 15 },
  )
})
