/**
 * Guests that share an arena which one of them could fill. No request fails because of that, no
 * guest waits for a request of another one at its store, and one more guest can connect.
 */
import { ArenaFullError } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import type { ArenaLimits } from '@xenkit/sim'
import { describe, expect, test } from 'vitest'
import type { DataPathKind } from '../../src/backend/data-path.ts'
import type { BlockStore } from '../../src/index.ts'
import { RawFrontend, type RawRequest } from '../support/raw-frontend.ts'
import { type RecordingStore, recordingStore } from '../support/recording-store.ts'
import { type Rig, rig } from '../support/rig.ts'
import { sharedMemoryStore } from '../support/threads/shared-memory-store.ts'

const { OKAY } = BLKIF_RSP
const PAGES = 1_100

/** Requests for all pages of a guest, `of` pages in each, at sectors that aren't adjacent. */
const requests = (front: RawFrontend, operation: number, of: number): RawRequest[] => {
  const { grefs } = front.data
  return Array.from({ length: Math.ceil(grefs.length / of) }, (_, i) => ({
    id: BigInt(i),
    sector: BigInt(i * of * 16),
    segments: Array.from(grefs.subarray(i * of, (i + 1) * of), (gref) => ({ gref })),
    ...(of > 11 ? { indirect_op: operation } : { operation }),
  }))
}

/** Sends requests, as many at a time as a ring takes. */
async function exchange(
  front: RawFrontend,
  all: readonly RawRequest[],
  queue = 0,
): Promise<number[]> {
  const statuses: number[] = []
  for (let at = 0; at < all.length; at += 32) {
    const some = all.slice(at, at + 32)
    for (const request of some) front.put(request, queue)
    front.send(queue)
    statuses.push(...(await front.responses(some.length, queue)).map(({ status }) => status))
  }
  return statuses
}

const okay = (count: number): number[] => Array.from({ length: count }, () => OKAY)

/** Three guests with a disk each. The first one's store can hold its requests. */
async function threeGuests(o: { dataPath: DataPathKind; arena: ArenaLimits }) {
  const held = recordingStore(2 ** 16)
  const stores: BlockStore[] = [held, recordingStore(2 ** 16), recordingStore(2 ** 16)]
  const r = await rig({ ...o, store: ({ devid }) => stores[(devid - 51_712) / 16] ?? 'decline' })
  const guests = [r.guest, r.machine.createDomain(), r.machine.createDomain()]
  for (const [i, vdev] of ['xvda', 'xvdb', 'xvdc'].entries()) {
    const guest = guests[i]
    if (guest) await r.plug({ vdev, guest })
  }
  const connect = async (i: number, queues = 1, dataPages = PAGES): Promise<RawFrontend> => {
    const vdev = ['xvda', 'xvdb', 'xvdc'][i] ?? ''
    const o = { vdev, queues, dataPages, persistent: true }
    const front = await RawFrontend.open(guests[i] ?? r.guest, o)
    await front.device.connected()
    return front
  }
  return { r, held, connect }
}

/** Puts all of a guest's pages into requests on its rings, none of which is answered. */
async function fill(front: RawFrontend, held: RecordingStore): Promise<void> {
  held.hold()
  for (let queue = 0; queue < front.rings.length; queue++) {
    const all = requests(front, BLKIF_OP.READ, 100)
    for (const request of all.slice(0, 10)) front.put(request, queue)
    front.send(queue)
  }
  await held.held(1)
}

const paths = ['persistent', 'map', 'copy'] as const

describe.each(paths)('%s, one guest with four rings in an arena of 4096 pages', (dataPath) => {
  test('stores answer at once: all requests of all guests complete', async () => {
    const { r, connect } = await threeGuests({ dataPath, arena: { pages: 4096 } })
    const first = await connect(0, 4)
    for (const operation of [BLKIF_OP.WRITE, BLKIF_OP.READ]) {
      for (let queue = 0; queue < 4; queue++) {
        expect(await exchange(first, requests(first, operation, 11), queue)).toEqual(okay(100))
      }
    }
    const second = await connect(1)
    expect(await exchange(second, requests(second, BLKIF_OP.WRITE, 11))).toEqual(okay(100))
    const third = await connect(2)
    expect(await exchange(third, requests(third, BLKIF_OP.WRITE, 256))).toEqual(okay(5))
    expect(await exchange(second, requests(second, BLKIF_OP.READ, 256))).toEqual(okay(5))
    expect(await exchange(first, requests(first, BLKIF_OP.READ, 256), 3)).toEqual(okay(5))
    await end(r, [first, second, third])
  })

  test('its store holds its requests: the other guests are served', async () => {
    const { r, held, connect } = await threeGuests({ dataPath, arena: { pages: 4096 } })
    const first = await connect(0, 4)
    await fill(first, held)
    const second = await connect(1)
    expect(await exchange(second, requests(second, BLKIF_OP.WRITE, 11))).toEqual(okay(100))
    const third = await connect(2)
    for (const front of [third, second]) {
      expect(await exchange(front, requests(front, BLKIF_OP.READ, 256))).toEqual(okay(5))
    }
    held.letGo()
    for (let queue = 0; queue < 4; queue++) {
      expect((await first.responses(10, queue)).map(({ status }) => status)).toEqual(okay(10))
    }
    await end(r, [first, second, third])
  })
})

test('one-page mappings of one guest do not use up the process limit of mappings', async () => {
  const arena = { pages: 65_536, mappings: 128 }
  const { r, connect } = await threeGuests({ dataPath: 'persistent', arena })
  const first = await connect(0, 4)
  for (let queue = 0; queue < 4; queue++) {
    expect(await exchange(first, requests(first, BLKIF_OP.WRITE, 1), queue)).toEqual(okay(PAGES))
  }
  const second = await connect(1)
  const third = await connect(2)
  for (const front of [second, third, first]) {
    expect(await exchange(front, requests(front, BLKIF_OP.READ, 1))).toEqual(okay(PAGES))
  }
  await end(r, [first, second, third])
})

test('each worker shares out its own arena likewise', async () => {
  const store = sharedMemoryStore(2 ** 16)
  const arena = { pages: 4096 }
  await using r = await rig({ dataPath: 'persistent', arena, threads: 2, store: () => store })
  await r.plug()
  const o = { queues: 4, dataPages: PAGES, persistent: true }
  await using front = await RawFrontend.open(r.guest, o)
  await front.device.connected()
  for (let queue = 0; queue < 4; queue++) {
    expect(await exchange(front, requests(front, BLKIF_OP.WRITE, 11), queue)).toEqual(okay(100))
  }
  expect(r.events.filter(({ error }) => error !== undefined)).toEqual([])
})

test.each(paths)('%s: an arena too small for a request closes the disk', async (dataPath) => {
  await using r = await rig({ dataPath, arena: { pages: 128 }, store: recordingStore(2 ** 16) })
  await r.plug()
  await using front = await RawFrontend.open(r.guest, { dataPages: 256, persistent: true })
  await front.device.connected()
  // Requests of up to a quarter of a MiB are served.
  expect(await exchange(front, requests(front, BLKIF_OP.READ, 32))).toEqual(okay(8))
  for (const request of requests(front, BLKIF_OP.READ, 256)) front.put(request)
  front.send()
  const { error } = await r.event(({ kind }) => kind === 'failed')
  expect(error).toBeInstanceOf(ArenaFullError)
  await front.device.backendClosing()
})

async function end(r: Rig, fronts: readonly RawFrontend[]): Promise<void> {
  expect(r.events.filter(({ error }) => error !== undefined)).toEqual([])
  for (const front of fronts) await front[Symbol.asyncDispose]()
  await r[Symbol.asyncDispose]()
}
