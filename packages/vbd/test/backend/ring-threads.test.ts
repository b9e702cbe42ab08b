/** Disks whose rings are served by worker threads. */
import { RingProtocolError } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { RingThreadError } from '@xenkit/backend'
import { openVbd, unplugVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { RawFrontend } from '../support/raw-frontend.ts'
import { heardOf, rig } from '../support/rig.ts'
import { sharedMemoryStore } from '../support/threads/shared-memory-store.ts'

const { OKAY, ERROR } = BLKIF_RSP

async function served(
  o: { threads?: number; queues?: number; sectors?: number; dataPath?: 'copy' | 'persistent' } = {},
) {
  const store = sharedMemoryStore(o.sectors ?? 1024)
  const r = await rig({ store, threads: o.threads ?? 2, dataPath: o.dataPath ?? 'copy' })
  await r.plug()
  const front = await RawFrontend.open(r.guest, {
    queues: o.queues ?? 2,
    dataPages: 8,
    persistent: true,
  })
  const { disk } = await r.event(({ kind }) => kind === 'connected')
  return { store, r, front, disk }
}

/** Sends a request on each queue, each to another sector. */
function sendOnEach(front: RawFrontend, operation: number): void {
  for (let queue = 0; queue < front.rings.length; queue++) {
    front.put(
      {
        id: BigInt(queue),
        operation,
        sector: BigInt(queue * 8),
        segments: [{ gref: front.data.grefs[queue] ?? 0 }],
      },
      queue,
    )
    front.send(queue)
  }
}

test('counts of all threads are added up, over reconnects', async () => {
  const { store, r, front, disk } = await served({ queues: 4, dataPath: 'persistent' })
  await using _ = r
  const { stats } = disk
  sendOnEach(front, BLKIF_OP.WRITE)
  for (let queue = 0; queue < 4; queue++) await front.responses(1, queue)
  expect(stats).toMatchObject({
    writes: 4,
    bytesWritten: 4 * 4096,
    queues: 4,
    dataPath: 'persistent',
    persistentGrants: 4,
  })
  await front[Symbol.asyncDispose]()
  expect(stats).toMatchObject({ writes: 4, queues: 0, dataPath: undefined, persistentGrants: 0 })
  expect(store.users()).toBe(0)
  await using again = await RawFrontend.open(r.guest, { queues: 3 })
  // A worker may answer before the server's thread knows that it serves.
  await again.device.connected()
  expect(
    await again.exchange({ operation: BLKIF_OP.READ }, { operation: BLKIF_OP.READ, sector: 5000n }),
  ).toMatchObject([{ status: ERROR }, { status: OKAY }])
  expect(stats).toMatchObject({ reads: 2, writes: 4, errors: 1, queues: 3 })
  expect(store.users()).toBe(1)
})

test('a disk is detached with requests in flight on every ring: all are answered', async () => {
  const { store, r, front } = await served()
  await using _ = r
  store.hold()
  front.data.bytes.fill(7)
  sendOnEach(front, BLKIF_OP.WRITE)
  await store.held(2)
  const unplugged = unplugVbd(r.xs, { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' })
  await front.device.backendClosing()
  const closed = front.device.close()
  store.letGo()
  for (const queue of [0, 1]) {
    expect(await front.responses(1, queue)).toMatchObject([{ id: BigInt(queue), status: OKAY }])
  }
  await closed
  front.release()
  await unplugged
  expect(store.bytes.subarray(0, 8192).every((byte) => byte === 7)).toBe(true)
  expect(store.users()).toBe(0)
})

test('a guest dies with requests in flight: the next guest gets the disk', async () => {
  const { store, r, front } = await served()
  await using _ = r
  store.hold()
  front.data.bytes.fill(3)
  sendOnEach(front, BLKIF_OP.WRITE)
  await store.held(2)
  r.machine.destroyDomain(r.guest.domid)
  await heardOf(r)
  expect(r.events.map(({ kind }) => kind)).not.toContain('closed')
  store.letGo()
  await r.event(({ kind }) => kind === 'closed')
  expect(store.bytes.subarray(0, 8192).every((byte) => byte === 3)).toBe(true)
  expect(r.events.filter(({ kind }) => kind === 'failed')).toEqual([])
  await unplugVbd(r.xs, { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' })
  await r.event(({ kind }) => kind === 'removed')
  const successor = r.machine.createDomain()
  await r.plug({ guest: successor })
  await using disk = await openVbd(successor, { vdev: 'xvda', queues: 4 })
  const into = new Uint8Array(512)
  await disk.read(0, [into])
  expect(into[0]).toBe(3)
})

test('a new size holds at once, for requests that wait behind a barrier too', async () => {
  const { store, r, front } = await served({ queues: 2, sectors: 1024 })
  await using _ = r
  await using _front = front
  store.hold()
  front.put({ id: 0n, operation: BLKIF_OP.WRITE }, 1)
  front.put({ id: 1n, operation: BLKIF_OP.WRITE_BARRIER }, 1)
  front.put({ id: 2n, operation: BLKIF_OP.WRITE, sector: 1000n }, 1)
  front.send(1)
  await store.held(1)
  store.resize(512)
  store.letGo()
  expect(await front.responses(3, 1)).toMatchObject([
    { id: 0n, status: OKAY },
    { id: 1n, status: OKAY },
    { id: 2n, status: ERROR },
  ])
  store.resize(1024)
  front.put({ sector: 1000n }, 1)
  front.send(1)
  expect(await front.responses(1, 1)).toMatchObject([{ status: OKAY }])
})

test('a broken ring closes the disk with a RingProtocolError, as without threads', async () => {
  const { r, front } = await served({ queues: 3 })
  await using _ = r
  const third = front.rings[2]
  if (!third) throw new Error('three rings were opened')
  Atomics.store(new Uint32Array(third.bytes.buffer, third.bytes.byteOffset, 1), 0, 1000)
  third.channel.notify()
  const { error } = await r.event(({ kind }) => kind === 'failed')
  expect(error).toBeInstanceOf(RingProtocolError)
  expect(error).toMatchObject({
    code: 'ERR_XEN_RING_PROTOCOL',
    details: { indices: { reqProd: 1000 } },
  })
  await front.device.backendClosing()
  await front[Symbol.asyncDispose]()
})

test("a ring that can't be connected in one thread leaves nothing open in the other", async () => {
  const store = sharedMemoryStore(64)
  await using r = await rig({ store, threads: 2 })
  await r.plug()
  const front = await RawFrontend.open(r.guest, {
    queues: 2,
    nodes: { 'queue-1/event-channel': '900' },
  })
  expect((await r.event(({ kind }) => kind === 'failed')).error).toMatchObject({
    code: 'ERR_XEN_EVTCHN',
    details: { errno: 'EINVAL' },
  })
  await front[Symbol.asyncDispose]()
  expect(store.users()).toBe(0)
  await using again = await RawFrontend.open(r.guest, { queues: 2 })
  expect(await again.exchange({})).toMatchObject([{ status: OKAY }])
})

describe('a thread that ends', () => {
  test('fails the disks that it served; others serve later ones', async () => {
    const { store, r, front, disk } = await served({ queues: 2, dataPath: 'persistent' })
    await using _ = r
    sendOnEach(front, BLKIF_OP.READ)
    for (const queue of [0, 1]) await front.responses(1, queue)
    r.threads[1]?.fail()
    const { error } = await r.event(({ kind }) => kind === 'failed')
    expect(error).toBeInstanceOf(RingThreadError)
    expect(error).toMatchObject({
      message: 'a thread that served rings of the device ended: told to fail',
    })
    await front.device.backendClosing()
    await front[Symbol.asyncDispose]()
    expect(disk.stats).toMatchObject({ reads: 2, persistentGrants: 0 })
    expect(store.users()).toBe(0)
    await using again = await openVbd(r.guest, { vdev: 'xvda', queues: 2 })
    await again.write(0, [new Uint8Array(512).fill(9)])
    expect(store.bytes[0]).toBe(9)
    expect(store.users()).toBe(1)
  })

  test("is the only one: later disks are served in the server's thread", async () => {
    const { store, r, front } = await served({ threads: 1, queues: 1 })
    await using _ = r
    r.threads[0]?.fail()
    await r.event(({ kind }) => kind === 'failed')
    await front.device.backendClosing()
    await front[Symbol.asyncDispose]()
    await using again = await openVbd(r.guest, { vdev: 'xvda' })
    await again.write(0, [new Uint8Array(512).fill(9)])
    expect(store.users()).toBe(0)
    expect(store.bytes[0]).toBe(9)
  })
})

test("a store that can't be shared is served in the server's thread", async () => {
  const shared = sharedMemoryStore(64)
  const plain = memoryStore(64)
  await using r = await rig({
    store: ({ devid }) => (devid === 51712 ? shared : plain),
    threads: 2,
  })
  await r.plug({ vdev: 'xvda' })
  await r.plug({ vdev: 'xvdb' })
  for (const [vdev, store, users] of [
    ['xvda', shared, 1],
    ['xvdb', plain, 0],
  ] as const) {
    await using disk = await openVbd(r.guest, { vdev, queues: 2 })
    await disk.write(0, [new Uint8Array(4096).fill(5)])
    expect(store.bytes.subarray(0, 4096).every((byte) => byte === 5)).toBe(true)
    expect(shared.users()).toBe(users)
  }
})

test.each([
  [
    'has no default export',
    new URL('../support/recording-store.ts', import.meta.url).href,
    'expected a function as its default export',
  ],
  [
    'makes a store that lacks a call',
    new URL('../support/threads/read-only-store.ts', import.meta.url).href,
    'made one without "write"',
  ],
])('a module that %s fails the disk', async (_, module, text) => {
  const store = {
    ...memoryStore(64),
    share: () => ({ module, data: undefined, [Symbol.dispose]: () => {} }),
  }
  await using r = await rig({ store, threads: 1 })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  expect(String((await r.event(({ kind }) => kind === 'failed')).error)).toContain(text)
  await front.device.backendClosing()
})
