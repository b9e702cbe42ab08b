/** Invalid requests and nodes of a guest: each gets an answer, or closes that one disk. */
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { NegotiationError, RingProtocolError } from '@xenkit/hypervisor'
import { describe, expect, test } from 'vitest'
import { openVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { recordingStore } from '../support/recording-store.ts'
import { RawFrontend, type RawRequest } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP
const LAST_PAGE = 1024n - 8n

const cases: readonly [string, RawRequest, number][] = [
  ['a read', {}, OKAY],
  ['a write', { operation: BLKIF_OP.WRITE }, OKAY],
  ['a read of one sector', { segments: [{ first: 7, last: 7 }] }, OKAY],
  ['a read of the last page', { sector: LAST_PAGE }, OKAY],
  ['a flush', { operation: BLKIF_OP.FLUSH_DISKCACHE, segments: [] }, OKAY],
  ['a flush with data', { operation: BLKIF_OP.FLUSH_DISKCACHE }, OKAY],
  ['no segments', { segments: [] }, ERROR],
  ['12 segments', { nr_segments: 12 }, ERROR],
  ['255 segments', { nr_segments: 255 }, ERROR],
  ['a segment that ends before it begins', { segments: [{ first: 3, last: 2 }] }, ERROR],
  ['a segment beyond its page', { segments: [{ first: 0, last: 8 }] }, ERROR],
  ['a bad segment behind a good one', { segments: [{}, { first: 0, last: 255 }] }, ERROR],
  ['one sector beyond the end', { sector: LAST_PAGE + 1n }, ERROR],
  ['a sector that wraps a u64', { sector: 2n ** 64n - 1n }, ERROR],
  ['a sector that a double rounds', { sector: 2n ** 53n + 1n }, ERROR],
  ['a sector above 2^32', { sector: 2n ** 32n }, ERROR],
  ['a write beyond the end', { operation: BLKIF_OP.WRITE, sector: 1024n }, ERROR],
  ['a reference that was not granted', { segments: [{ gref: 0xffff_ffff }] }, ERROR],
  [
    'a write from a reference that was not granted',
    { operation: BLKIF_OP.WRITE, segments: [{}, { gref: 3 }] },
    ERROR,
  ],
  ['a barrier', { operation: BLKIF_OP.WRITE_BARRIER }, OKAY],
  ['a barrier without data', { operation: BLKIF_OP.WRITE_BARRIER, segments: [] }, OKAY],
  ['a barrier beyond the end', { operation: BLKIF_OP.WRITE_BARRIER, sector: 1024n }, ERROR],
  ['a discard', { operation: BLKIF_OP.DISCARD, sector: 8n }, OKAY],
  ['a discard of the whole disk', { operation: BLKIF_OP.DISCARD, nr_sectors: 1024n }, OKAY],
  ['a secure discard where there is none', { operation: BLKIF_OP.DISCARD, flag: 1 }, OKAY],
  ['a discard of nothing', { operation: BLKIF_OP.DISCARD, nr_sectors: 0n }, ERROR],
  [
    'a discard beyond the end',
    { operation: BLKIF_OP.DISCARD, sector: 1n, nr_sectors: 1024n },
    ERROR,
  ],
  [
    'a discard of more than there can be',
    { operation: BLKIF_OP.DISCARD, nr_sectors: 2n ** 64n - 1n },
    ERROR,
  ],
  [
    'a discard whose end wraps a u64',
    { operation: BLKIF_OP.DISCARD, sector: 2n ** 64n - 8n, nr_sectors: 16n },
    ERROR,
  ],
  [
    'a discard whose end wraps a u64 to 0',
    { operation: BLKIF_OP.DISCARD, sector: 8n, nr_sectors: 2n ** 64n - 8n },
    ERROR,
  ],
  ['an indirect read', { indirect_op: BLKIF_OP.READ }, OKAY],
  [
    'an indirect write of 128 pages',
    { indirect_op: BLKIF_OP.WRITE, segments: Array.from({ length: 128 }, () => ({})) },
    OKAY,
  ],
  [
    'an indirect read of 256 segments',
    {
      indirect_op: BLKIF_OP.READ,
      segments: Array.from({ length: 256 }, () => ({ first: 1, last: 3 })),
    },
    OKAY,
  ],
  ['an indirect read without segments', { indirect_op: BLKIF_OP.READ, nr_segments: 0 }, ERROR],
  [
    'an indirect read of 257 segments',
    {
      indirect_op: BLKIF_OP.READ,
      segments: Array.from({ length: 257 }, () => ({ first: 0, last: 0 })),
    },
    ERROR,
  ],
  [
    'an indirect read of 65535 segments',
    { indirect_op: BLKIF_OP.READ, nr_segments: 65_535 },
    ERROR,
  ],
  [
    'an indirect read beyond the end',
    {
      indirect_op: BLKIF_OP.READ,
      sector: 1025n - 8n * 20n,
      segments: Array.from({ length: 20 }, () => ({})),
    },
    ERROR,
  ],
  [
    'an indirect write with a segment beyond its page',
    { indirect_op: BLKIF_OP.WRITE, segments: [{}, { last: 8 }] },
    ERROR,
  ],
  [
    'an indirect write with a page that was not granted',
    { indirect_op: BLKIF_OP.WRITE, segments: [{}, { gref: 0xffff_ffff }] },
    ERROR,
  ],
  [
    'an indirect read whose segments were not granted',
    { indirect_op: BLKIF_OP.READ, indirectGref: 0xffff_ffff },
    ERROR,
  ],
  ['an indirect barrier', { indirect_op: BLKIF_OP.WRITE_BARRIER }, ERROR],
  ['an indirect flush', { indirect_op: BLKIF_OP.FLUSH_DISKCACHE }, ERROR],
  ['an indirect discard', { indirect_op: BLKIF_OP.DISCARD }, ERROR],
  ['an indirect indirect request', { indirect_op: BLKIF_OP.INDIRECT }, ERROR],
  ['an indirect unknown operation', { indirect_op: 200 }, ERROR],
  ['a reserved operation', { operation: BLKIF_OP.RESERVED_1 }, EOPNOTSUPP],
  ['an unknown operation', { operation: 255 }, EOPNOTSUPP],
]

describe.each([
  ['x86_64', 'copy'],
  ['x86_32', 'copy'],
  ['arm', 'copy'],
  ['x86_64', 'map'],
  ['x86_32', 'persistent'],
] as const)('requests in %s layout, data path %s', (abi, dataPath) => {
  test.each(cases)('%s', async (_, request, status) => {
    const store = recordingStore(1024)
    store.bytes.fill(0xa5)
    const before = store.bytes.slice()
    await using r = await rig({ store, dataPath })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { abi, persistent: true })
    const id = 0xdead_beef_0bad_f00dn
    const [answer] = await front.exchange({ ...request, id })
    // The response to an indirect request names its `indirect_op`.
    expect(answer).toMatchObject({
      id,
      operation: request.indirect_op ?? request.operation ?? BLKIF_OP.READ,
      status,
    })
    if (status !== OKAY) expect(Buffer.compare(store.bytes, before)).toBe(0)
    // Only a read whose data can't be delivered reaches the store.
    if (status !== OKAY) expect(store.calls.filter((call) => !call.startsWith('read'))).toEqual([])
    // The disk still serves.
    expect(await front.exchange({ id: 2n })).toMatchObject([{ id: 2n, status: OKAY }])
  })
})

test('operations that a store lacks are refused', async () => {
  const { bytes, sectors, read, write } = recordingStore(64)
  await using r = await rig({ store: { sectors, read, write: write ?? (() => {}) } })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  const operations = [BLKIF_OP.WRITE_BARRIER, BLKIF_OP.FLUSH_DISKCACHE, BLKIF_OP.DISCARD]
  const answers = await front.exchange(...operations.map((operation) => ({ operation })))
  expect(answers.map(({ operation, status }) => [operation, status])).toEqual(
    operations.map((operation) => [operation, EOPNOTSUPP]),
  )
  await r.event(({ kind }) => kind === 'connected')
  const published = await r.xs.list(front.device.backendPath)
  expect(published).toContain('sectors')
  for (const node of ['feature-barrier', 'feature-flush-cache', 'feature-discard']) {
    expect(published).not.toContain(node)
  }
  expect(bytes.every((byte) => byte === 0)).toBe(true)
})

test('a bad request among good ones fails alone', async () => {
  await using r = await rig({ store: memoryStore(1024) })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  const answers = await front.exchange(
    { id: 1n, operation: BLKIF_OP.WRITE },
    { id: 2n, operation: BLKIF_OP.WRITE, segments: [{ gref: 9999 }] },
    { id: 3n, operation: BLKIF_OP.WRITE, sector: 8n },
    { id: 4n, nr_segments: 0 },
    { id: 5n },
  )
  expect(new Map(answers.map(({ id, status }) => [id, status]))).toEqual(
    new Map([
      [1n, OKAY],
      [2n, ERROR],
      [3n, OKAY],
      [4n, ERROR],
      [5n, OKAY],
    ]),
  )
})

test('a write to a read-only disk fails, and so does one to a store that only reads', async () => {
  const { bytes, sectors, read } = memoryStore(64)
  for (const [store, readOnly] of [
    [memoryStore(bytes), true],
    [{ sectors, read }, false],
  ] as const) {
    await using r = await rig({ store })
    await r.plug({ readOnly })
    await using front = await RawFrontend.open(r.guest)
    front.data.bytes.fill(7)
    expect(await front.exchange({ operation: BLKIF_OP.WRITE })).toMatchObject([{ status: ERROR }])
    expect(bytes.every((byte) => byte === 0)).toBe(true)
  }
})

test("a response has zeroes for padding, and leaves the slot's tail as it was", async () => {
  await using r = await rig({ store: memoryStore(1024) })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  // The request's id has bytes 1 and 4 to 7 where the response has padding.
  const id = 0xdeadbeef0badf00dn
  const [answer] = await front.exchange({ id })
  const expected = new Uint8Array(16)
  new DataView(expected.buffer).setBigUint64(0, id, true)
  expect(answer?.slot.subarray(0, 16)).toEqual(expected)
})

describe('an impossible ring index', () => {
  test.each([33, 1000, 0x8000_0000, 0xffff_ffff])(
    'req_prod %i closes that disk and no other',
    async (index) => {
      const stores = [memoryStore(64), memoryStore(64)] as const
      await using r = await rig({ store: ({ devid }) => stores[devid === 51712 ? 0 : 1] })
      await r.plug({ vdev: 'xvda' })
      await r.plug({ vdev: 'xvdb' })
      await using other = await openVbd(r.guest, { vdev: 'xvdb' })
      const front = await RawFrontend.open(r.guest)
      await front.exchange({})
      front.poke('req_prod', index + 1)
      front.channel.notify()
      const failed = await r.event((event) => event.kind === 'failed')
      expect(failed.error).toBeInstanceOf(RingProtocolError)
      expect(failed.disk.devid).toBe(51712)
      await front.device.backendClosing()
      expect(
        await r.xs.read(`/local/domain/0/error/backend/vbd/${r.guest.domid}/51712/error`),
      ).toContain('req_prod')
      await other.write(0, [new Uint8Array(512).fill(9)])
      expect(stores[1].bytes[0]).toBe(9)
      await front[Symbol.asyncDispose]()
    },
  )
})

describe('published nodes', () => {
  const garbage: readonly [string, Record<string, string | undefined>, string][] = [
    ['no ring-ref', { 'ring-ref': undefined }, 'ring-ref'],
    ['a ring-ref that is no number', { 'ring-ref': 'garbage' }, 'ring-ref'],
    ['a negative ring-ref', { 'ring-ref': '-1' }, 'ring-ref'],
    ['a ring-ref in hexadecimal', { 'ring-ref': '0x10' }, 'ring-ref'],
    ['a ring-ref of a thousand digits', { 'ring-ref': '1'.repeat(1000) }, 'ring-ref'],
    ['no event-channel', { 'event-channel': undefined }, 'event-channel'],
    ['an event-channel that is no number', { 'event-channel': '7 or so' }, 'event-channel'],
    ['an unknown protocol', { protocol: 'vax-abi' }, 'protocol'],
    ['an order above what is offered', { 'ring-page-order': '5' }, 'ring-page-order'],
    ['an order and ring-ref without a number', { 'ring-page-order': '0' }, 'ring-ref0'],
    ['more queues than are offered', { 'multi-queue-num-queues': '5' }, 'multi-queue-num-queues'],
    ['no queues', { 'multi-queue-num-queues': '0' }, 'multi-queue-num-queues'],
    [
      'queues beyond any number',
      { 'multi-queue-num-queues': '4294967298' },
      'multi-queue-num-queues',
    ],
    ['two queues in the old layout', { 'multi-queue-num-queues': '2' }, 'queue-0/event-channel'],
    [
      'a feature that is neither there nor not',
      { 'feature-persistent': 'yes' },
      'feature-persistent',
    ],
  ]

  test.each(garbage)('%s: the disk is closed, naming the node', async (_, nodes, name) => {
    await using r = await rig({ store: memoryStore(64) })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { nodes })
    const { error } = await r.event((event) => event.kind === 'failed')
    expect(error).toBeInstanceOf(NegotiationError)
    expect(error).toMatchObject({ details: { node: `${front.device.path}/${name}` } })
    await front.device.backendClosing()
  })

  test.each([
    ['a ring-ref that was not granted', { 'ring-ref': '4000000' }, 'ERR_XEN_GRANT'],
    ['a port that was not opened', { 'event-channel': '900' }, 'ERR_XEN_EVTCHN'],
  ])('%s: the disk is closed and can be had again', async (_, nodes, code) => {
    await using r = await rig({ store: memoryStore(64) })
    await r.plug()
    const front = await RawFrontend.open(r.guest, { nodes })
    expect((await r.event((event) => event.kind === 'failed')).error).toMatchObject({ code })
    await front[Symbol.asyncDispose]()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    await disk.flush()
  })
})
