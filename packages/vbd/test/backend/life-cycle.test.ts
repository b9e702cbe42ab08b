/** Disks through their life: guests that reboot, vanish, share and unplug; servers that stop. */
import { BLKIF_OP, BLKIF_RSP, XenbusState } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import {
  type BlockStore,
  StoreInUseError,
  openVbd,
  plugVbd,
  serveVbd,
  unplugVbd,
} from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { RawFrontend } from '../support/raw-frontend.ts'
import { recordingStore } from '../support/recording-store.ts'
import { heardOf, rig } from '../support/rig.ts'

/** A store whose calls wait until the test lets them go on. */
function heldStore(sectors: number) {
  const memory = memoryStore(sectors)
  const held: (() => void)[] = []
  let arrived: (() => void) | undefined
  const hold = (): Promise<void> =>
    new Promise((resolve) => {
      held.push(resolve)
      arrived?.()
    })
  const store: BlockStore = {
    ...memory,
    read: async (sector, into) => {
      await hold()
      await memory.read(sector, into)
    },
    write: async (sector, from) => {
      await hold()
      await memory.write(sector, from)
    },
  }
  return {
    store,
    bytes: memory.bytes,
    /** Resolves when a call is held. */
    call: () =>
      held.length > 0 ? Promise.resolve() : new Promise<void>((resolve) => (arrived = resolve)),
    letGo: () => held.splice(0).forEach((go) => go()),
  }
}

test('a guest reboots: the disk connects again, with the data that was written', async () => {
  await using r = await rig({ store: memoryStore(64) })
  await r.plug()
  for (let life = 1; life <= 3; life++) {
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    const sector = new Uint8Array(512)
    await disk.read(0, [sector])
    expect(sector[0]).toBe(life - 1)
    await disk.write(0, [sector.fill(life)])
  }
  expect(r.events.map(({ kind }) => kind)).toEqual([
    'offered',
    'connected',
    'closed',
    'connected',
    'closed',
    'connected',
    'closed',
  ])
})

test('a guest dies with a request in flight: the next guest gets the disk', async () => {
  const held = heldStore(64)
  await using r = await rig({ store: held.store })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  front.data.bytes.fill(3)
  front.put({ operation: 1 })
  front.ring.publish()
  front.channel.notify()
  await held.call()
  r.machine.destroyDomain(r.guest.domid)
  held.letGo()
  await r.event(({ kind }) => kind === 'closed')
  // A write that the store had started is complete.
  expect(held.bytes.subarray(0, 4096).every((byte) => byte === 3)).toBe(true)
  expect(r.events.filter(({ kind }) => kind === 'failed')).toEqual([])
  await unplugVbd(r.xs, { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' })
  await r.event(({ kind }) => kind === 'removed')

  const successor = r.machine.createDomain()
  await r.plug({ guest: successor })
  await using disk = await openVbd(successor, { vdev: 'xvda' })
  const read = new Uint8Array(512)
  const reading = disk.read(0, [read])
  await held.call()
  held.letGo()
  await reading
  expect(read[0]).toBe(3)
})

test('a guest that closes with requests in flight waits until they complete', async () => {
  const held = heldStore(64)
  await using r = await rig({ store: held.store })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  front.put({ operation: 1 })
  front.ring.publish()
  front.channel.notify()
  await held.call()
  const closed = front[Symbol.asyncDispose]()
  await front.device.backendClosing()
  // Enough round trips for a fault to show.
  for (let i = 0; i < 50; i++) await r.xs.read(`${front.device.backendPath}/state`)
  expect(await r.xs.read(`${front.device.backendPath}/state`)).toBe(String(XenbusState.Closing))
  expect(r.events.map(({ kind }) => kind)).not.toContain('closed')
  held.letGo()
  await closed
})

describe('requests that a guest has sent and the store has not started', () => {
  /**
   * A ring full of requests. All but the first wait for a barrier, and need nothing more from the
   * guest.
   */
  async function filled() {
    const store = recordingStore(1024)
    const r = await rig({ store })
    await r.plug()
    const front = await RawFrontend.open(r.guest)
    store.hold()
    front.put({ id: 0n, operation: BLKIF_OP.WRITE })
    for (let id = 1; id < front.ring.size; id++) {
      front.put({
        id: BigInt(id),
        operation: id === 1 ? BLKIF_OP.WRITE_BARRIER : BLKIF_OP.DISCARD,
        sector: BigInt(id * 8),
      })
    }
    front.send()
    await store.held(1)
    return { store, r, front }
  }

  test('are completed and answered when the guest closes', async () => {
    const { store, r, front } = await filled()
    await using _r = r
    const closed = front.device.close()
    await r.xs.wait(
      async (view) =>
        (await view.read(`${front.device.path}/state`)) === String(XenbusState.Closed) || undefined,
    )
    store.letGo()
    const answers = await front.responses(front.ring.size)
    expect(new Set(answers.map(({ id }) => id)).size).toBe(front.ring.size)
    expect(answers.every(({ status }) => status === BLKIF_RSP.OKAY)).toBe(true)
    await closed
    front.release()
  })

  test('are answered, with those that it sends at events of answers, as Linux does', async () => {
    const { store, r, front } = await filled()
    await using _r = r
    await front.xs.write(`${front.device.path}/state`, String(XenbusState.Closed))
    await heardOf(r)
    store.letGo()
    for (let round = 0; round < 3; round++) {
      expect(await front.responses(front.ring.size)).toHaveLength(front.ring.size)
      for (let id = 0; id < front.ring.size; id++) {
        front.put({ id: BigInt(id), operation: BLKIF_OP.READ })
      }
      front.send()
    }
    expect(await front.responses(front.ring.size)).toHaveLength(front.ring.size)
    await r.event(({ kind }) => kind === 'closed')
    front.release()
  })

  test('come to an end, however many more it sends', async () => {
    const { store, r, front } = await filled()
    await using _r = r
    await front.xs.write(`${front.device.path}/state`, String(XenbusState.Closed))
    const closed = r.event(({ kind }) => kind === 'closed').then(() => 'closed')
    await heardOf(r)
    store.letGo()
    let sent = front.ring.size
    const flood = (): Promise<'open'> => {
      front.ring.drain(front.ring.size)
      while (front.ring.free > 0) front.put({ id: BigInt(sent++), operation: BLKIF_OP.READ })
      front.send()
      return new Promise((resolve) => setImmediate(() => resolve('open')))
    }
    while ((await Promise.race([closed, flood()])) === 'open');
    expect(sent).toBeGreaterThan(10 * front.ring.size)
    front.release()
  })

  test('are not started once the guest is gone: they may be stale after a migration', async () => {
    const { store, r, front } = await filled()
    await using _r = r
    r.machine.destroyDomain(r.guest.domid)
    await heardOf(r)
    store.letGo()
    await r.event(({ kind }) => kind === 'closed')
    expect(store.calls).toEqual(['write 0+8'])
    front.release()
  })
})

test('several disks of several guests, each with its own store', async () => {
  const stores = new Map<string, ReturnType<typeof memoryStore>>()
  await using r = await rig({
    store: ({ frontendDomid, devid }) => {
      const store = memoryStore(256)
      stores.set(`${frontendDomid}/${devid}`, store)
      return store
    },
  })
  const guests = [r.guest, r.machine.createDomain(), r.machine.createDomain()]
  await Promise.all(
    guests.flatMap((guest) =>
      ['xvda', 'xvdb', 'sda'].map(async (vdev, i) => {
        await r.plug({ guest, vdev })
        await using disk = await openVbd(guest, { vdev })
        const mark = guest.domid * 10 + i
        await Promise.all(
          Array.from({ length: 32 }, (_, n) =>
            disk.write(n * 8, [new Uint8Array(4096).fill(mark)]),
          ),
        )
      }),
    ),
  )
  for (const { domid } of guests) {
    for (const [i, devid] of [51712, 51728, 2048].entries()) {
      expect(stores.get(`${domid}/${devid}`)?.bytes.every((byte) => byte === domid * 10 + i)).toBe(
        true,
      )
    }
  }
})

describe('one store', () => {
  test('is served to one writable disk, and to a second when the first is gone', async () => {
    await using r = await rig({ store: memoryStore(64) })
    await r.plug({ vdev: 'xvda' })
    await r.event(({ kind }) => kind === 'offered')
    await r.plug({ vdev: 'xvdb' })
    const { error, disk } = await r.event(({ kind }) => kind === 'declined')
    expect(await r.xs.read(`/local/domain/0/backend/vbd/${r.guest.domid}/51728/state`)).toBe(
      String(XenbusState.Initialising),
    )
    expect(error).toBeInstanceOf(StoreInUseError)
    expect(disk.devid).toBe(51728)
    await unplugVbd(r.xs, { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvdb' })
    await unplugVbd(r.xs, { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' })
    await r.plug({ vdev: 'xvdc' })
    await using disk2 = await openVbd(r.guest, { vdev: 'xvdc' })
    await disk2.flush()
  })

  test('is served to any number of read-only disks', async () => {
    await using r = await rig({ store: memoryStore(64) })
    for (const vdev of ['xvda', 'xvdb']) {
      await r.plug({ vdev, readOnly: true })
      await using disk = await openVbd(r.guest, { vdev })
      expect(disk.readOnly).toBe(true)
      await disk.read(0, [new Uint8Array(512)])
      await expect(disk.write(0, [new Uint8Array(512)])).rejects.toMatchObject({
        code: 'ERR_XEN_DISK',
      })
    }
  })
})

test('a reserved disk is left to the server that it is reserved for', async () => {
  const [open, reserved] = [memoryStore(64), memoryStore(64)]
  await using r = await rig({ store: open })
  const stop = new AbortController()
  const serving = serveVbd(r.dom0, { store: reserved, reservation: 'mine', signal: stop.signal })
  await plugVbd(r.xs, {
    frontendDomid: r.guest.domid,
    backendDomid: 0,
    vdev: 'xvda',
    readOnly: false,
    reservation: 'mine',
  })
  await r.plug({ vdev: 'xvdb' })
  for (const [vdev, store, fill] of [
    ['xvda', reserved, 1],
    ['xvdb', open, 2],
  ] as const) {
    await using disk = await openVbd(r.guest, { vdev })
    await disk.write(0, [new Uint8Array(512).fill(fill)])
    expect(store.bytes[0]).toBe(fill)
  }
  stop.abort()
  await serving
})

test('unplugging a disk in use: the guest closes it, the nodes are removed', async () => {
  await using r = await rig({ store: memoryStore(64) })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  const unplugged = unplugVbd(r.xs, { frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' })
  await front.device.backendClosing()
  await front[Symbol.asyncDispose]()
  await unplugged
  await r.event(({ kind }) => kind === 'removed')
  expect(await r.xs.exists(`/local/domain/0/backend/vbd/${r.guest.domid}/51712`)).toBe(false)
  expect(await r.xs.exists(`/local/domain/${r.guest.domid}/device/vbd/51712`)).toBe(false)
})

test('a server that stops asks its guests to close, and leaves closed disks behind', async () => {
  await using r = await rig({ store: memoryStore(64) })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  await r.event(({ kind }) => kind === 'connected')
  const stopped = r.stop()
  await front.device.backendClosing()
  await front[Symbol.asyncDispose]()
  await stopped
  expect(await r.xs.read(`/local/domain/0/backend/vbd/${r.guest.domid}/51712/state`)).toBe(
    String(XenbusState.Closed),
  )
})

test("a server that stops closes a disk even if its guest doesn't react", async () => {
  await using r = await rig({ store: memoryStore(64) })
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  await r.event(({ kind }) => kind === 'connected')
  await r.stop()
  expect(await r.xs.read(`/local/domain/0/backend/vbd/${r.guest.domid}/51712/state`)).toBe(
    String(XenbusState.Closed),
  )
  front.release()
})

describe('a store that fails', () => {
  const failing: readonly [string, BlockStore][] = [
    [
      'throws',
      {
        sectors: 64,
        read: () => {
          throw new Error('broken')
        },
      },
    ],
    ['rejects', { sectors: 64, read: () => Promise.reject(new Error('broken')) }],
    ['returns short', { sectors: 64, read: () => ({ bytesRead: 512 }) }],
    ['resolves short', { sectors: 64, read: async () => ({ bytesRead: 0 }) }],
  ]
  test.each(failing)(
    '%s: the request fails, the guest sees none of its bytes, the disk is still served',
    async (_, store) => {
      await using r = await rig({ store: { ...store, write: () => {} } })
      await r.plug()
      await using front = await RawFrontend.open(r.guest)
      front.data.bytes.fill(5)
      expect(await front.exchange({})).toMatchObject([{ status: -1 }])
      expect(front.data.bytes.every((byte) => byte === 5)).toBe(true)
      expect(await front.exchange({ operation: 1 })).toMatchObject([{ status: 0 }])
      expect(await front.exchange({})).toMatchObject([{ status: -1 }])
      // At most once a second, so that a guest's retries don't fill a log.
      expect(r.events.filter(({ kind }) => kind === 'store-failed')).toHaveLength(1)
    },
  )

  test('has an invalid size: the disk is closed with the reason', async () => {
    await using r = await rig({ store: () => ({ sectors: 0.5, read() {} }) })
    await r.plug()
    const { error } = await r.event(({ kind }) => kind === 'failed')
    expect(error).toBeInstanceOf(TypeError)
  })

  test('gets requests for neighbouring sectors as one call', async () => {
    const calls: [number, number[]][] = []
    const memory = memoryStore(64)
    await using r = await rig({
      store: {
        ...memory,
        read: (sector, into) => (
          calls.push([sector, into.map(({ length }) => length)]),
          memory.read(sector, into)
        ),
      },
    })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    await front.exchange(
      { id: 1n, sector: 8n },
      { id: 2n, sector: 16n },
      { id: 3n, sector: 40n },
      { id: 4n, sector: 24n },
    )
    expect(calls).toEqual([
      [8, [4096, 4096]],
      [40, [4096]],
      [24, [4096]],
    ])
  })
})
