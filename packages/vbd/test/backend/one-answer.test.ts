/**
 * Each request gets exactly one answer, whatever a store, a listener or the hypervisor does; and no
 * wait is endless.
 */
import { ArenaFullError, GrantError, type Hypervisor } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { openXenstore } from '@xenkit/xenstore-client'
import { createMachine } from '@xenkit/sim'
import { describe, expect, test } from 'vitest'
import { type BlockStore, plugVbd, serveVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { recordingStore } from '../support/recording-store.ts'
import { rig } from '../support/rig.ts'
import { until } from '../../../backend/test/support/until.ts'
import { WatchedHypervisor } from '../../../backend/test/support/watched-hypervisor.ts'

const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP

/** Stores of plain JavaScript programs, which no type checker has seen. */
const unchecked = (store: {
  sectors: number
  read: () => unknown
  write?: () => unknown
}): BlockStore => Object.create(store)

describe('results of a store', () => {
  const notResults: readonly [string, unknown][] = [
    ['a number', 4096],
    ['null', null],
    ['true', true],
    ['an object without a count', {}],
    ['a count that is no number', { bytesRead: '4096' }],
  ]
  test.each(notResults)(
    '%s is no result: the request fails and the listener gets the reason',
    async (_, result) => {
      for (const read of [() => result, async () => result]) {
        await using r = await rig({ store: unchecked({ sectors: 64, read, write() {} }) })
        await r.plug()
        await using front = await RawFrontend.open(r.guest)
        expect(await front.exchange({ id: 1n })).toMatchObject([{ id: 1n, status: ERROR }])
        expect(r.events.find(({ kind }) => kind === 'store-failed')?.error).toBeInstanceOf(
          TypeError,
        )
        expect(await front.exchange({ id: 2n, operation: BLKIF_OP.WRITE })).toMatchObject([
          { id: 2n, status: OKAY },
        ])
      }
    },
  )

  type Then = (done: () => void, failed: (error: Error) => void) => void
  const thens: readonly [string, Then, number][] = [
    ['settles at once', (done) => done(), OKAY],
    ['settles twice', (done) => (done(), done()), OKAY],
    ['settles both ways', (done, failed) => (done(), failed(new Error('and not'))), OKAY],
    ['settles later and twice', (done) => setImmediate(() => (done(), done())), OKAY],
    [
      'throws after it settled',
      (done) => {
        done()
        throw new Error('broken')
      },
      OKAY,
    ],
    [
      'throws',
      () => {
        throw new Error('broken')
      },
      ERROR,
    ],
  ]
  test.each(thens)('a thenable that %s: one answer', async (_, then, status) => {
    // oxlint-disable-next-line unicorn/no-thenable -- query builders give such
    const thenable = { then }
    await using r = await rig({
      store: unchecked({ sectors: 64, read: () => thenable, write() {} }),
    })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    const answers = await front.exchange(
      { id: 1n },
      { id: 2n, sector: 16n },
      { id: 3n, sector: 32n },
    )
    expect(answers.map(({ id, status: given }) => [id, given]).toSorted()).toEqual([
      [1n, status],
      [2n, status],
      [3n, status],
    ])
    expect(await front.exchange({ id: 4n, operation: BLKIF_OP.WRITE })).toMatchObject([
      { id: 4n, status: OKAY },
    ])
  })
})

test('a result whose members throw fails its request, and no other one', async () => {
  const watched = new WatchedHypervisor()
  const broken = new Error('broken')
  let finish = (): void => {}
  const results: unknown[] = [
    new Promise<void>((resolve) => (finish = resolve)),
    {
      get bytesRead() {
        throw broken
      },
    },
    undefined,
    new Proxy(
      {},
      {
        has() {
          throw broken
        },
      },
    ),
  ]
  await using r = await rig({
    store: unchecked({ sectors: 64, read: () => results.shift() }),
    dataPath: 'map',
    through: watched.through,
  })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  await front.device.connected()
  const before = watched.pages
  for (const [id, sector] of [
    [1n, 0n],
    [2n, 16n],
    [3n, 32n],
    [4n, 48n],
  ] as const) {
    front.put({ id, sector })
  }
  front.send()
  expect((await front.responses(3)).map(({ id, status }) => [id, status])).toEqual([
    [2n, ERROR],
    [3n, OKAY],
    [4n, ERROR],
  ])
  expect(watched.pages - before).toBe(1)
  expect(r.events.find(({ kind }) => kind === 'store-failed')?.error).toBe(broken)
  finish()
  expect(await front.responses(1)).toMatchObject([{ id: 1n, status: OKAY }])
})

test("a barrier that isn't offered is refused at once", async () => {
  let finish = (): void => {}
  await using r = await rig({
    store: unchecked({
      sectors: 64,
      read: () => new Promise<void>((resolve) => (finish = resolve)),
    }),
  })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  front.put({ id: 1n })
  front.put({ id: 2n, operation: BLKIF_OP.WRITE_BARRIER })
  front.send()
  expect(await front.responses(1)).toMatchObject([{ id: 2n, status: EOPNOTSUPP }])
  finish()
  expect(await front.responses(1)).toMatchObject([{ id: 1n, status: OKAY }])
})

test('requests that were merged into one store call fail one by one', async () => {
  const memory = memoryStore(64)
  const bad = 16
  const covers = (sector: number, pieces: readonly Uint8Array[]): boolean =>
    sector <= bad && bad < sector + pieces.reduce((sum, { length }) => sum + length / 512, 0)
  for (const broken of [
    () => {
      throw new Error('bad sector')
    },
    () => Promise.reject(new Error('bad sector')),
    () => ({ bytesRead: 512 }),
  ]) {
    await using r = await rig({
      store: {
        ...memory,
        read: (sector, into) => (covers(sector, into) ? broken() : memory.read(sector, into)),
      },
    })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    const answers = await front.exchange(
      { id: 1n, sector: 8n },
      { id: 2n, sector: 16n },
      { id: 3n, sector: 24n },
    )
    expect(new Map(answers.map(({ id, status }) => [id, status]))).toEqual(
      new Map([
        [1n, OKAY],
        [2n, ERROR],
        [3n, OKAY],
      ]),
    )
    expect(r.events.filter(({ kind }) => kind === 'store-failed')).toHaveLength(1)
  }
})

test('a listener throws: its error is uncaught, and the disk is still served', async () => {
  const uncaught: unknown[] = []
  const before = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', (error) => uncaught.push(error))
  try {
    const machine = createMachine()
    await using _ = machine
    const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
    using xs = await openXenstore(dom0.xenstore)
    const abort = new AbortController()
    const broken = new Error('the listener is broken')
    const serving = serveVbd(dom0, {
      store: {
        sectors: 64,
        read: () => ({ bytesRead: 0 }),
        write: () => Promise.reject(new Error('no')),
      },
      signal: abort.signal,
      onEvent() {
        throw broken
      },
    })
    await plugVbd(xs, {
      frontendDomid: guest.domid,
      backendDomid: dom0.domid,
      vdev: 'xvda',
      readOnly: false,
    })
    {
      await using front = await RawFrontend.open(guest)
      expect(await front.exchange({ id: 1n })).toMatchObject([{ id: 1n, status: ERROR }])
      expect(await front.exchange({ id: 2n, operation: BLKIF_OP.WRITE })).toMatchObject([
        { id: 2n, status: ERROR },
      ])
      expect(await front.exchange({ id: 3n }, { id: 4n })).toHaveLength(2)
    }
    abort.abort()
    await serving
    expect(uncaught.length).toBeGreaterThan(0)
    expect(uncaught.every((error) => error === broken)).toBe(true)
  } finally {
    process.removeAllListeners('uncaughtException')
    for (const listener of before) process.on('uncaughtException', listener)
  }
})

describe.each(['copyIn', 'copyOut'] as const)('the hypervisor refuses a whole %s', (direction) => {
  test('the disk is closed, its guest gets no answer, and no wait remains', async () => {
    const machine = createMachine()
    await using _ = machine
    const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
    const refusing = hooked(dom0, {
      opened(batch) {
        batch[direction] = () => {
          throw new GrantError('refused', { status: -14 })
        }
        return batch
      },
    })
    using xs = await openXenstore(dom0.xenstore)
    const abort = new AbortController()
    const failures: unknown[] = []
    const serving = serveVbd(refusing, {
      store: memoryStore(64),
      signal: abort.signal,
      onEvent: ({ kind, error }) => kind === 'failed' && failures.push(error),
    })
    await plugVbd(xs, {
      frontendDomid: guest.domid,
      backendDomid: dom0.domid,
      vdev: 'xvda',
      readOnly: false,
    })
    const front = await RawFrontend.open(guest)
    // A good and a bad request of each kind, so that some are complete before the call and some
    // aren't.
    for (const operation of [BLKIF_OP.WRITE, BLKIF_OP.READ]) {
      for (const sector of [0n, 64n]) front.put({ operation, sector })
    }
    // More requests, which reach the store after that.
    for (let i = 0; i < 12; i++) {
      front.put({ operation: i % 2 === 0 ? BLKIF_OP.WRITE : BLKIF_OP.READ })
    }
    front.ring.publish()
    front.channel.notify()
    await front.device.backendClosing()
    await front[Symbol.asyncDispose]()
    expect(front.ring.drain(front.ring.size)).toBe(0)
    abort.abort()
    await serving
    expect(failures).toMatchObject([{ code: 'ERR_XEN_GRANT' }])
  })
})

describe('the arena is full', () => {
  const full = (): never => {
    throw new ArenaFullError('full', { domid: 0, pages: 1 })
  }

  test('a request without a buffer waits for those in flight', async () => {
    let isFull = false
    const copied: number[] = []
    const through = (dom0: Hypervisor): Hypervisor =>
      hooked(dom0, {
        allocated: (allocate, pages) => (isFull ? full() : allocate(pages)),
        opened(batch) {
          const copyIn = batch.copyIn.bind(batch)
          batch.copyIn = (count) => (copied.push(count), copyIn(count))
          return batch
        },
      })
    const store = recordingStore(4096)
    await using r = await rig({ store, dataPath: 'copy', through })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, { dataPages: 256 })
    await front.device.connected()
    store.hold()
    front.put({ id: 1n, operation: BLKIF_OP.WRITE })
    front.send()
    await store.held(1)
    isFull = true
    const segments = Array.from(front.data.grefs, (gref) => ({ gref }))
    front.put({ id: 2n, indirect_op: BLKIF_OP.WRITE, segments })
    front.send()
    await until(() => copied.length === 2)
    // The request's segments were fetched, its data wasn't.
    expect(copied).toEqual([1, 1])
    isFull = false
    store.letGo()
    const answers = await front.responses(2)
    expect(answers.map(({ id, status }) => [id, status])).toEqual([
      [1n, OKAY],
      [2n, OKAY],
    ])
    expect(copied).toEqual([1, 1, 256])
  })

  const mapping = ['map', 'persistent'] as const

  test.each(mapping)(
    'data path %s: data of pages that find no room is copied',
    async (dataPath) => {
      let isFull = false
      const copied: number[] = []
      const through = (dom0: Hypervisor): Hypervisor =>
        hooked(dom0, {
          mappedPages: (pages) => (isFull ? (pages.close(), full()) : pages),
          opened(batch) {
            const copyOut = batch.copyOut.bind(batch)
            batch.copyOut = (count) => (copied.push(count), copyOut(count))
            return batch
          },
        })
      const store = memoryStore(64)
      store.bytes.fill(7)
      await using r = await rig({ store, dataPath, through })
      await r.plug()
      await using front = await RawFrontend.open(r.guest, { dataPages: 2, persistent: true })
      await front.device.connected()
      isFull = true
      const answers = await front.exchange({ id: 1n }, { id: 2n })
      expect(answers.map(({ status }) => status)).toEqual([OKAY, OKAY])
      expect([copied, front.data.bytes[0]]).toEqual([[2], 7])
      isFull = false
      expect(await front.exchange({ id: 3n })).toMatchObject([{ id: 3n, status: OKAY }])
      expect(copied).toEqual([2])
    },
  )
})

/**
 * Sends requests to a disk, and expects it to be closed because of an error of this domain's
 * hypervisor.
 */
async function expectClosedOver(
  error: Error,
  o: Parameters<typeof rig>[0],
  { requests, dataPages }: { readonly requests: number; readonly dataPages: number },
): Promise<void> {
  await using r = await rig(o)
  await r.plug()
  const front = await RawFrontend.open(r.guest, { dataPages })
  await front.device.connected()
  for (let id = 0; id < requests; id++) front.put({ id: BigInt(id) })
  front.send()
  await r.event(({ kind }) => kind === 'failed')
  await front.device.backendClosing()
  await front[Symbol.asyncDispose]()
  await r.stop()
  expect(r.events.find(({ kind }) => kind === 'failed')?.error).toBe(error)
}

test('mapping fails for a reason of this domain: the disk is closed', async () => {
  let mappings = 0
  const broken = new Error('broken')
  const through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, {
      mappedPages(pages) {
        // The first request is mapped, the second one isn't.
        if (++mappings <= 1) return pages
        pages.close()
        throw broken
      },
    })
  await expectClosedOver(
    broken,
    { store: memoryStore(64), dataPath: 'map', through },
    { requests: 2, dataPages: 2 },
  )
})

test("the guest can't be notified: the disk is closed, the store gets no more calls", async () => {
  const broken = new Error('broken')
  let reads = 0
  const through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, {
      bind(bind, ...args) {
        const binding = bind(...args)
        binding.notify = () => {
          throw broken
        }
        return binding
      },
    })
  // Requests for the same sector are a store call each.
  await expectClosedOver(
    broken,
    { store: { sectors: 64, read: () => void reads++ }, through },
    { requests: 16, dataPages: 1 },
  )
  expect(reads).toBe(8)
})

test('a ring with more requests than rows is served without another event', async () => {
  const store = recordingStore(64)
  store.hold()
  await using r = await rig({ store })
  await r.plug()
  await using front = await RawFrontend.open(r.guest, { ringPageOrder: 2 })
  // Requests for the same sector are a store call each.
  for (let id = 0n; id < 100n; id++) front.put({ id })
  front.send()
  await store.held(64) // as many as there are rows
  // Enough rounds of the event loop that no pending event or turn would look at the ring.
  for (let round = 0; round < 100; round++) await new Promise((resolve) => setImmediate(resolve))
  store.letGo()
  const answers = await front.responses(100)
  const ids = answers.map(({ id }) => Number(id)).toSorted((a, b) => a - b)
  expect(ids).toEqual(Array.from({ length: 100 }, (_, id) => id))
  expect(answers.every(({ status }) => status === OKAY)).toBe(true)
})
