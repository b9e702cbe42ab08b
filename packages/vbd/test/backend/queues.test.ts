/** Several rings of one disk. */
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { type Hypervisor, NegotiationError, RingProtocolError } from '@xenkit/hypervisor'
import { describe, expect, test } from 'vitest'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { recordingStore } from '../support/recording-store.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'
import { sharedMemoryStore } from '../support/threads/shared-memory-store.ts'

const { OKAY } = BLKIF_RSP

describe.each([
  [1, 0],
  [2, 0],
  [4, 0],
  [4, 1],
  [3, 4],
])('%i queues with rings of order %i', (queues, ringPageOrder) => {
  test.each([
    ['copy', 0],
    ['persistent', 0],
    ['copy', 2],
    ['persistent', 2],
  ] as const)(
    'each is served, and answers its own requests: %s, by %i threads besides',
    async (dataPath, threads) => {
      const store = sharedMemoryStore(4096)
      await using r = await rig({ store, dataPath, threads })
      await r.plug()
      await using front = await RawFrontend.open(r.guest, {
        queues,
        ringPageOrder,
        dataPages: queues,
        persistent: true,
      })
      const { disk } = await r.event(({ kind }) => kind === 'connected')
      expect(disk.stats.queues).toBe(queues)
      // Several waves of more requests than a small ring holds.
      for (let wave = 0; wave < 3; wave++) {
        for (let queue = 0; queue < queues; queue++) {
          const gref = front.data.grefs[queue] ?? 0
          front.data.bytes.fill(queue + 1, queue * 4096, (queue + 1) * 4096)
          for (let i = 0; i < 32; i++) {
            front.put(
              {
                id: BigInt(queue * 1000 + i),
                operation: BLKIF_OP.WRITE,
                sector: BigInt((queue * 32 + i) * 8),
                segments: [{ gref }],
              },
              queue,
            )
          }
          front.send(queue)
        }
        const answers = await Promise.all(
          Array.from({ length: queues }, (_, queue) => front.responses(32, queue)),
        )
        for (const [queue, own] of answers.entries()) {
          expect(
            own.map(({ id, status }) => [Number(id), status]).toSorted(([a = 0], [b = 0]) => a - b),
          ).toEqual(Array.from({ length: 32 }, (_, i) => [queue * 1000 + i, OKAY]))
        }
      }
      expect(
        store.bytes
          .subarray(0, queues * 32 * 4096)
          .every((byte, i) => byte === 1 + Math.floor(i / (32 * 4096))),
      ).toBe(true)
    },
  )
})

test('are offered, and one that breaks the rules closes the disk', async () => {
  await using r = await rig({ store: recordingStore(64) })
  await r.plug()
  const front = await RawFrontend.open(r.guest, { queues: 3 })
  await r.event(({ kind }) => kind === 'connected')
  expect(await r.xs.read(`${front.device.backendPath}/multi-queue-max-queues`)).toBe('4')
  const third = front.rings[2]
  if (!third) throw new Error('three rings were opened')
  Atomics.store(new Uint32Array(third.bytes.buffer, third.bytes.byteOffset, 1), 0, 1000)
  third.channel.notify()
  expect((await r.event(({ kind }) => kind === 'failed')).error).toBeInstanceOf(RingProtocolError)
  await front.device.backendClosing()
  await front[Symbol.asyncDispose]()
})

const garbage: readonly [string, Record<string, string | undefined>, string][] = [
  [
    'a queue that is missing',
    { 'queue-1/event-channel': undefined, 'queue-1/ring-ref': undefined },
    'queue-1/event-channel',
  ],
  ['a ring that is missing', { 'queue-1/ring-ref': undefined }, 'queue-1/ring-ref'],
  ['a port that is none', { 'queue-0/event-channel': '0' }, 'queue-0/event-channel'],
  [
    'one page in two rings',
    { 'queue-0/ring-ref': '77', 'queue-1/ring-ref': '77' },
    'queue-1/ring-ref',
  ],
  [
    'one port for two rings',
    { 'queue-0/event-channel': '9', 'queue-1/event-channel': '9' },
    'queue-1/event-channel',
  ],
]
test.each(garbage)('%s: the disk is closed, naming the node', async (_, nodes, node) => {
  await using r = await rig({ store: recordingStore(64) })
  await r.plug()
  await using front = await RawFrontend.open(r.guest, { queues: 2, nodes })
  const { error } = await r.event(({ kind }) => kind === 'failed')
  expect(error).toBeInstanceOf(NegotiationError)
  expect(error).toMatchObject({ details: { node: `${front.device.path}/${node}` } })
  await front.device.backendClosing()
})

test('connecting a queue fails, then closing another: the first error is reported', async () => {
  const through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, {
      bind(bind, ...args) {
        const binding = bind(...args)
        const close = binding.close.bind(binding)
        binding.close = () => {
          close()
          throw new Error("can't be unbound")
        }
        return binding
      },
    })
  await using r = await rig({ store: recordingStore(64), through })
  await r.plug()
  const nodes = { 'queue-1/event-channel': '900' }
  await using front = await RawFrontend.open(r.guest, { queues: 2, nodes })
  const { error } = await r.event(({ kind }) => kind === 'failed')
  const suppressed = [expect.objectContaining({ message: "can't be unbound" })]
  expect(error).toMatchObject({ code: 'ERR_XEN_EVTCHN', suppressed })
  await front.device.backendClosing()
})

test("a second queue that can't be connected leaves nothing of the first open", async () => {
  await using r = await rig({ store: recordingStore(64) })
  await r.plug()
  const front = await RawFrontend.open(r.guest, {
    queues: 2,
    nodes: { 'queue-1/event-channel': '900' },
  })
  await r.event(({ kind }) => kind === 'failed')
  await front[Symbol.asyncDispose]()
  await using again = await RawFrontend.open(r.guest, { queues: 2 })
  expect(await again.exchange({})).toMatchObject([{ status: OKAY }])
})
