/**
 * A service ends although a store doesn't answer. Memory of requests at the store stays allocated.
 */
import { type Hypervisor, type Pages, XenError, closeAll } from '@xenkit/hypervisor'
import { createMachine } from '@xenkit/sim'
import { BLKIF_OP } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import {
  type BlockStore,
  DeviceAbandonedError,
  type StoreFunction,
  type VbdEvent,
  openVbd,
  changeVbdMedium,
  plugVbd,
  resizeVbd,
  serveVbd,
} from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { RawFrontend } from '../support/raw-frontend.ts'
import { recordingStore } from '../support/recording-store.ts'
import { type Rig, heardOf, rig } from '../support/rig.ts'
import { blockedStore } from '../support/threads/blocked-store.ts'
import { sharedMemoryStore } from '../support/threads/shared-memory-store.ts'
import { until } from '../../../backend/test/support/until.ts'

const abandonMs = 50

const isAbandoned = ({ error }: VbdEvent): boolean => error instanceof DeviceAbandonedError

const errorNode = (r: Rig): Promise<string> =>
  r.xs.read(`/local/domain/0/error/backend/vbd/${r.guest.domid}/51712/error`)

/** Allocates all free memory of a domain, as another process might. */
function takeMemory(hv: Hypervisor): void {
  const taken: Pages[] = []
  for (let pages = 1024; pages > 0; pages >>= 1) {
    try {
      for (;;) taken.push(hv.arena.allocate(pages))
    } catch {
      // No free run of that size is left.
    }
  }
  closeAll(taken)
}

describe.each([0, 2])('requests that a store keeps, with %i worker threads', (threads) => {
  const paths = ['copy', 'map', 'persistent'] as const
  test.each(paths)(
    '%s: the service ends, their memory stays allocated until they complete',
    async (dataPath) => {
      const store = sharedMemoryStore(64)
      await using r = await rig({ store, dataPath, threads, abandonMs })
      await r.plug()
      const front = await RawFrontend.open(r.guest, { queues: 2, dataPages: 2, persistent: true })
      store.hold()
      front.data.bytes.fill(7)
      for (const queue of [0, 1]) {
        const segments = [{ gref: front.data.grefs[queue] ?? 0 }]
        front.put({ operation: BLKIF_OP.WRITE, sector: BigInt(queue * 8), segments }, queue)
        front.send(queue)
      }
      await store.held(2)
      const stopped = r.stop()
      await front.device.backendClosing()
      const closed = front.device.close()
      await stopped
      await closed
      const { error } = await r.event(isAbandoned)
      expect(error).toMatchObject({ code: 'ERR_XEN_DEVICE_ABANDONED', details: { ms: abandonMs } })
      expect(await errorNode(r)).toMatch(
        /^the device is abandoned: its requests haven't completed within/,
      )
      const states = ['offered', 'connected', 'failed', 'closed', 'removed']
      expect(r.events.map(({ kind }) => kind)).toEqual(states)
      // The guest can free its rings again.
      for (const ring of front.rings) ring.close()
      expect(store.users()).toBe(threads > 0 ? 1 : 0)
      await r.dom0.close()
      takeMemory(r.guest)
      store.letGo()
      await until(() => store.bytes.subarray(0, 8192).every((byte) => byte === 7))
      await until(() => store.users() === 0 && isRevocable(front.data))
      front.release()
    },
  )
})

function isRevocable(share: { close(): void }): boolean {
  try {
    share.close()
    return true
  } catch {
    return false
  }
}

test('a thread that its store blocks is not waited for either', async () => {
  const { store, blocked, letGo } = blockedStore()
  await using r = await rig({ store, threads: 1, abandonMs })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  front.put()
  front.send()
  await blocked()
  const stopped = r.stop()
  await front.device.backendClosing()
  const closed = front.device.close()
  await stopped
  expect((await r.event(isAbandoned)).kind).toBe('failed')
  await closed
  letGo()
  await until(() => front.rings.every((ring) => isRevocable(ring)))
  front.release()
})

test('a disk that has failed before is reported as abandoned, too', async () => {
  const store = recordingStore(64)
  await using r = await rig({ store, abandonMs })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  store.hold()
  front.put()
  front.send()
  await store.held(1)
  // More requests than the ring holds.
  const { buffer, byteOffset } = front.ring.bytes
  Atomics.store(new Uint32Array(buffer, byteOffset), 0, 999)
  front.channel.notify()
  await r.event(({ kind }) => kind === 'failed')
  await front.device.backendClosing()
  const closed = front.device.close()
  await r.stop()
  await closed
  const codes = r.events.flatMap(({ error }) => (error instanceof XenError ? [error.code] : []))
  expect(codes).toEqual(['ERR_XEN_RING_PROTOCOL', 'ERR_XEN_DEVICE_ABANDONED'])
  store.letGo()
  front.release()
})

test('a store gets no more calls once its disk is abandoned', async () => {
  const store = recordingStore(64)
  await using r = await rig({ store, abandonMs })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  store.hold()
  front.put({ id: 0n, operation: BLKIF_OP.WRITE_BARRIER })
  front.put({ id: 1n, operation: BLKIF_OP.WRITE })
  front.send()
  await store.held(1)
  const stopped = r.stop()
  await front.device.backendClosing()
  const closed = front.device.close()
  await stopped
  await closed
  store.letGo()
  await until(() => isRevocable(front.data))
  expect(store.calls).toEqual(['flush'])
  front.release()
})

test('a slow store that completes in time is waited for', async () => {
  const store = recordingStore(64)
  await using r = await rig({ store, abandonMs: 60_000 })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  store.hold()
  front.put({ operation: BLKIF_OP.WRITE })
  front.send()
  await store.held(1)
  const stopped = r.stop()
  await front.device.backendClosing()
  const closed = front.device.close()
  store.letGo()
  expect(await front.responses(1)).toMatchObject([{ status: 0 }])
  await Promise.all([stopped, closed])
  expect(r.events.filter(isAbandoned)).toEqual([])
  front.release()
})

test.each([0, 1])('a disk without requests is not abandoned, with %i threads', async (threads) => {
  await using r = await rig({ store: sharedMemoryStore(64), threads, abandonMs: 0 })
  await r.plug()
  await using _disk = await openVbd(r.guest, { vdev: 'xvda' })
  await r.stop()
  expect(r.events.map(({ kind }) => kind)).toEqual(['offered', 'connected', 'closed', 'removed'])
})

describe('a store may also never finish to', () => {
  const never = new Promise<never>(() => {})

  test('open: the disk is left to others, a store that opens late is released', async () => {
    const late = memoryStore(64)
    let give: ((store: BlockStore) => void) | undefined
    const released: BlockStore[] = []
    const answer = new Promise<BlockStore>((resolve) => (give = resolve))
    await using r = await rig({
      store: () => answer,
      release: (store) => void released.push(store),
      abandonMs,
    })
    await r.plug()
    await heardOf(r)
    await r.stop()
    expect(r.events.filter(isAbandoned)).toMatchObject([{ kind: 'declined' }])
    expect(r.events).toHaveLength(1)
    expect(released).toEqual([])
    give?.(late)
    await until(() => released.length > 0)
    expect(released).toEqual([late])
  })

  test('resize', async () => {
    const store: BlockStore = { ...memoryStore(64), resize: () => never }
    await using r = await rig({ store, abandonMs })
    await r.plug()
    await using _disk = await openVbd(r.guest, { vdev: 'xvda' })
    const address = { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' }
    const enough = new AbortController()
    const resized = resizeVbd(r.xs, address, { sectors: 128, signal: enough.signal })
    resized.catch(() => {})
    await heardOf(r)
    await r.stop()
    expect(r.events.filter(isAbandoned)).toMatchObject([{ kind: 'refused' }])
    await expect(resized).rejects.toThrow('abandoned')
    enough.abort()
  })

  test('release a medium', async () => {
    let letGo = (): void => {}
    const held = new Promise<void>((resolve) => (letGo = resolve))
    const reading: BlockStore = { sectors: 64, read: () => held }
    const store: StoreFunction = ({ target }) => (target === '' ? 'no-medium' : reading)
    await using r = await rig({ store, abandonMs })
    const address = { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' }
    await plugVbd(r.xs, { ...address, readOnly: true, cdrom: true, params: 'a' })
    const front = await RawFrontend.open(r.guest)
    front.put()
    front.send()
    const changed = changeVbdMedium(r.xs, address, { params: '' })
    changed.catch(() => {})
    await heardOf(r)
    const stopped = r.stop()
    await front.device.backendClosing()
    const closed = front.device.close()
    await stopped
    await closed
    const kinds = r.events.filter(isAbandoned).map(({ kind }) => kind)
    expect([kinds[0], kinds.at(-1)]).toEqual(['refused', 'failed'])
    await expect(changed).rejects.toThrow('abandoned')
    letGo()
    front.release()
  })
})

test.each([-1, 1.5, 2 ** 31, Number.NaN])('"abandonMs" of %d is refused', async (ms) => {
  await using machine = createMachine()
  const serving = serveVbd(machine.createDomain(), { store: memoryStore(64), abandonMs: ms })
  await expect(serving).rejects.toThrow('"abandonMs" expected an integer 0..2147483647')
})
