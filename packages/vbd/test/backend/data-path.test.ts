/**
 * How data moves: which pages are mapped when, which calls are made, and what the statistics count.
 */
import { randomBytes } from 'node:crypto'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { LEAVES_BUFFERS, type StoreWrite } from '../../src/index.ts'
import {
  encryptedStore,
  memoryStore,
  overlayStore,
  snapshotStore,
  sparseStore,
} from '@xenkit/stores'
import { recordingStore } from '../support/recording-store.ts'
import { RawFrontend, type RawRequest } from '../support/raw-frontend.ts'
import { type Rig, rig } from '../support/rig.ts'
import { WatchedHypervisor } from '../../../backend/test/support/watched-hypervisor.ts'

const { OKAY } = BLKIF_RSP

async function stats(r: Rig) {
  const { disk } = await r.event(({ kind }) => kind === 'connected')
  return disk.stats
}

/** Requests of 4 pages each, at different sectors, from all data pages in turn. */
const requests = (front: RawFrontend, operation: number, count: number): RawRequest[] =>
  Array.from({ length: count }, (_, i) => ({
    id: BigInt(i),
    operation,
    sector: BigInt(i * 32),
    segments: Array.from({ length: 4 }, (_page, page) => ({
      gref: front.data.grefs[(i * 4 + page) % front.data.grefs.length] ?? 0,
    })),
  }))

describe('persistent grants', () => {
  test('pages are mapped once; then store and guest exchange data without a call', async () => {
    const hv = new WatchedHypervisor()
    const store = recordingStore(1024)
    const seen = new Set<number>()
    await using r = await rig({
      dataPath: 'persistent',
      through: hv.through,
      store: {
        ...store,
        read: (sector, into) => (
          into.forEach(({ byteOffset }) => seen.add(byteOffset)),
          store.read(sector, into)
        ),
      },
    })
    await r.plug()
    {
      await using front = await RawFrontend.open(r.guest, { persistent: true, dataPages: 16 })
      front.data.bytes.forEach((_, i) => (front.data.bytes[i] = i >> 12))
      await front.exchange(...requests(front, BLKIF_OP.WRITE, 4))
      expect([...store.bytes.subarray(0, 16 * 4096)].every((byte, i) => byte === i >> 12)).toBe(
        true,
      )
      const { maps } = hv
      expect(await stats(r)).toMatchObject({
        dataPath: 'persistent',
        persistentGrants: 16,
        queues: 1,
      })
      front.data.bytes.fill(0)
      for (let round = 0; round < 5; round++) {
        await front.exchange(...requests(front, BLKIF_OP.READ, 4))
      }
      expect([hv.maps, hv.copies]).toEqual([maps, 0])
      expect(front.data.bytes.every((byte, i) => byte === i >> 12)).toBe(true)
      // In the simulation a mapping is the guest's page itself.
      expect([...seen].toSorted((a, b) => a - b)).toEqual(
        Array.from({ length: 16 }, (_, i) => front.data.byteOffset + i * 4096),
      )
    }
    await r.event(({ kind }) => kind === 'closed')
    expect(hv.pages).toBe(0)
    expect(await stats(r)).toMatchObject({ dataPath: undefined, persistentGrants: 0, queues: 0 })
  })

  test('are not used with a frontend without the feature, and not offered by default', async () => {
    for (const [dataPath, persistent, offered] of [
      ['persistent', false, '1'],
      [undefined, true, '0'],
    ] as const) {
      const hv = new WatchedHypervisor()
      await using r = await rig({
        store: recordingStore(1024),
        through: hv.through,
        ...(dataPath ? { dataPath } : {}),
      })
      await r.plug()
      await using front = await RawFrontend.open(r.guest, { persistent })
      await front.exchange({}, { operation: BLKIF_OP.WRITE })
      expect(await stats(r)).toMatchObject({ dataPath: 'copy', persistentGrants: 0 })
      expect(await r.xs.read(`${front.device.backendPath}/feature-persistent`)).toBe(offered)
      expect([hv.pages, hv.copies]).toEqual([1, 2])
    }
  })

  test('a page twice in one request, and in concurrent requests', async () => {
    await using r = await rig({ store: recordingStore(1024), dataPath: 'persistent' })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { persistent: true })
    const twice = { operation: BLKIF_OP.WRITE, segments: [{}, { first: 1, last: 1 }] }
    expect(await front.exchange(twice, twice, { operation: BLKIF_OP.READ })).toMatchObject([
      { status: OKAY },
      { status: OKAY },
      { status: OKAY },
    ])
    expect((await stats(r)).persistentGrants).toBe(1)
  })

  test('a page that is granted read-only is not kept: data of writes is copied', async () => {
    const store = recordingStore(64)
    await using r = await rig({ store, dataPath: 'persistent' })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { persistent: true })
    const readOnly = r.guest.grants.share({ domid: 0, pages: 1, writable: false })
    readOnly.bytes.fill(3)
    const segments = [{}, { gref: readOnly.grefs[0] ?? 0 }]
    const [answer] = await front.exchange({ operation: BLKIF_OP.WRITE, segments })
    expect(answer?.status).toBe(OKAY)
    expect([store.bytes[4095], store.bytes[4096], store.bytes[8191]]).toEqual([0, 3, 3])
    expect(await front.exchange({ segments })).toMatchObject([{ status: BLKIF_RSP.ERROR }])
    expect((await stats(r)).persistentGrants).toBe(0)
    readOnly.close()
  })

  test('more pages than the cache holds: the oldest are evicted and uncounted', async () => {
    const hv = new WatchedHypervisor()
    await using r = await rig({
      store: recordingStore(4096),
      dataPath: 'persistent',
      through: hv.through,
    })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { persistent: true, dataPages: 1200 })
    for (let at = 0; at < 1200; at += 200) {
      const segments = Array.from({ length: 200 }, (_, i) => ({
        gref: front.data.grefs[at + i] ?? 0,
      }))
      expect(await front.exchange({ indirect_op: BLKIF_OP.WRITE, segments })).toMatchObject([
        { status: OKAY },
      ])
      const { persistentGrants } = await stats(r)
      expect(persistentGrants).toBeLessThanOrEqual(1056)
      // One more page: the ring.
      expect(hv.pages).toBe(persistentGrants + 1)
    }
    expect((await stats(r)).persistentGrants).toBeGreaterThan(900)
  })
})

describe('plain mapping', () => {
  test('pages are mapped while the store works, and unmapped before the answer', async () => {
    const hv = new WatchedHypervisor()
    const store = recordingStore(1024)
    await using r = await rig({ store, dataPath: 'map', through: hv.through })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { dataPages: 8 })
    store.hold()
    for (const operation of [BLKIF_OP.WRITE, BLKIF_OP.READ]) {
      for (const request of requests(front, operation, 2)) front.put(request)
      front.send()
      await store.held(1)
      expect(hv.pages).toBe(1 + 8)
      store.letGo(1)
      await front.responses(2)
      expect(hv.pagesAtNotify.at(-1)).toBe(1)
    }
    expect(hv.pagesAtNotify).toHaveLength(2)
    expect(hv.copies).toBe(0)
    expect(await stats(r)).toMatchObject({ dataPath: 'map', persistentGrants: 0 })
  })

  test('writes work with pages that are granted read-only', async () => {
    const store = recordingStore(64)
    await using r = await rig({ store, dataPath: 'map' })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    const readOnly = r.guest.grants.share({ domid: 0, pages: 1, writable: false })
    readOnly.bytes.fill(3)
    const segments = [{ gref: readOnly.grefs[0] ?? 0 }]
    const answers = await front.exchange(
      { id: 1n, operation: BLKIF_OP.WRITE, segments },
      { id: 2n, segments },
    )
    expect(new Map(answers.map(({ id, status }) => [id, status]))).toEqual(
      new Map([
        [1n, OKAY],
        [2n, BLKIF_RSP.ERROR],
      ]),
    )
    expect(store.bytes.subarray(0, 4096).every((byte) => byte === 3)).toBe(true)
    readOnly.close()
  })

  test('four of the largest requests of a guest can be mapped, the next one waits', async () => {
    const hv = new WatchedHypervisor()
    const store = recordingStore(65_536)
    await using r = await rig({ store, dataPath: 'map', through: hv.through })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { dataPages: 256 })
    store.hold()
    const segments = Array.from({ length: 256 }, (_, i) => ({ gref: front.data.grefs[i] ?? 0 }))
    // Sectors that aren't adjacent, so that each request is a store call of its own.
    for (let i = 0; i < 6; i++) {
      front.put({ id: BigInt(i), indirect_op: BLKIF_OP.READ, sector: BigInt(i * 4096), segments })
    }
    front.send()
    await store.held(4)
    expect(hv.pages).toBe(1 + 1024)
    store.letGo(1)
    await store.held(4)
    expect(hv.pages).toBe(1 + 1024)
    store.letGo()
    expect((await front.responses(6)).every(({ status }) => status === OKAY)).toBe(true)
  })
})

test('the statistics of a disk', async () => {
  await using r = await rig({ store: recordingStore(1024) })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  await front.exchange(
    { id: 1n, indirect_op: BLKIF_OP.WRITE, segments: [{}, {}] },
    { id: 2n, operation: BLKIF_OP.WRITE_BARRIER },
    { id: 3n, operation: BLKIF_OP.FLUSH_DISKCACHE, segments: [] },
    { id: 4n, operation: BLKIF_OP.DISCARD, nr_sectors: 1000n },
    { id: 5n, operation: BLKIF_OP.DISCARD, nr_sectors: 2000n },
    { id: 6n, segments: [{ first: 1, last: 2 }] },
    { id: 7n, operation: 200 },
  )
  expect({ ...(await stats(r)) }).toMatchObject({
    reads: 1,
    writes: 1,
    flushes: 1,
    barriers: 1,
    discards: 2,
    indirect: 1,
    errors: 2,
    bytesRead: 1024,
    bytesWritten: 3 * 4096,
    bytesDiscarded: 512_000,
  })
})

describe('a store whose write changes its buffers', () => {
  /** A store that encrypts data in place. */
  function scrambling(sectors: number) {
    const store = recordingStore(sectors)
    const write: StoreWrite = (sector, from) => {
      for (const piece of from) piece.set(piece.map((byte) => byte ^ 0xff))
      return store.write?.(sector, from)
    }
    return { ...store, write }
  }

  test('gets a private copy with plain mapping: the guest sees no change', async () => {
    const hv = new WatchedHypervisor()
    const store = scrambling(64)
    await using r = await rig({ store, dataPath: 'map', through: hv.through })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    front.data.bytes.fill(3)
    for (const operation of [BLKIF_OP.WRITE, BLKIF_OP.WRITE_BARRIER]) {
      expect(await front.exchange({ operation })).toMatchObject([{ status: OKAY }])
      expect(store.bytes.subarray(0, 4096).every((byte) => byte === 0xfc)).toBe(true)
      expect(front.data.bytes.every((byte) => byte === 3)).toBe(true)
    }
    expect(hv.pages).toBe(1) // the ring
    expect(hv.copies).toBe(2)
    expect(await front.exchange({})).toMatchObject([{ status: OKAY }]) // a read is mapped
    expect(hv.copies).toBe(2)
    expect(front.data.bytes.every((byte) => byte === 0xfc)).toBe(true)
  })

  test("fails the simulation's check if it claims `leavesBuffers` (Xen: SIGSEGV)", async () => {
    const store = scrambling(64)
    Object.assign(store.write, LEAVES_BUFFERS)
    const r = await rig({ store, dataPath: 'map' })
    await r.plug()
    const front = await RawFrontend.open(r.guest)
    await front.exchange({ operation: BLKIF_OP.WRITE })
    await front[Symbol.asyncDispose]()
    const told = `domain 0 stored to byte 0 of the page of gref ${front.data.grefs[0]} of domain 1`
    await expect(r[Symbol.asyncDispose]()).rejects.toThrow(told)
  })

  test('does not inherit `leavesBuffers` from a store whose other members it has', () => {
    const own = memoryStore(64)
    expect(own.write.leavesBuffers).toBe(true)
    const { write } = scrambling(64)
    expect({ ...own, write }.write.leavesBuffers).toBeUndefined()
  })
})

/** A store without `leavesBuffers`. */
const silent = () => ({ ...memoryStore(64), write: () => {} })

test.each([
  ['memory', () => memoryStore(64), true],
  ['sparse memory', () => sparseStore(64), true],
  ['an encrypted store', () => encryptedStore(silent(), { key: randomBytes(64) }), true],
  ['an overlay', () => overlayStore(silent()), true],
  ['an overlay into another', () => overlayStore(memoryStore(64), { top: silent() }), undefined],
  ['a live store', () => snapshotStore(memoryStore(64)), true],
  ['a live store on another', () => snapshotStore(silent()), undefined],
] as const)('%s leaves buffers alone as far as all do that get them', (_, open, leaves) => {
  expect(open().write?.leavesBuffers).toBe(leaves)
})
