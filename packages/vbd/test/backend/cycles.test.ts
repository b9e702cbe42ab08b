/**
 * Disks that connect and close repeatedly leave nothing behind, and one disk's store doesn't harm
 * others.
 */
import { BLKIF_OP, BLKIF_RSP, XenbusState } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { recordingStore } from '../support/recording-store.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'
import { WatchedHypervisor } from '../../../backend/test/support/watched-hypervisor.ts'

const { OKAY } = BLKIF_RSP
const LIVES = 24
const turns = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await new Promise(setImmediate)
}

describe.each(['copy', 'map', 'persistent'] as const)('data path %s', (dataPath) => {
  test('many connections of a guest leave no page mapped and no port bound', async () => {
    const hv = new WatchedHypervisor()
    const store = recordingStore(4096)
    let listeners = 0
    await using r = await rig({
      dataPath,
      through: hv.through,
      store: {
        ...store,
        onResize() {
          listeners++
          return { [Symbol.dispose]: () => void listeners-- }
        },
      },
    })
    await r.plug()
    for (let life = 0; life < LIVES; life++) {
      const queues = 1 + (life % 4)
      // Published for one queue too: the number of the last connection is still there.
      await using front = await RawFrontend.open(r.guest, {
        queues,
        dataPages: 16,
        persistent: true,
        nodes: { 'multi-queue-num-queues': String(queues) },
      })
      const segments = Array.from({ length: 16 }, (_, i) => ({ gref: front.data.grefs[i] ?? 0 }))
      // Every third frontend closes with requests on the ring.
      front.put({ indirect_op: BLKIF_OP.WRITE, segments })
      front.put({ operation: BLKIF_OP.READ })
      front.send()
      if (life % 3 > 0) await front.responses(2)
    }
    await turns()
    expect([hv.pages, listeners]).toEqual([0, 0])
    const lives = r.events.filter(({ kind }) => kind === 'closed').length
    expect(lives).toBe(LIVES)
  })

  test('a guest dies with requests at the store, behind a barrier and waiting', async () => {
    const hv = new WatchedHypervisor()
    const store = recordingStore(65_536)
    await using r = await rig({ dataPath, store, through: hv.through })
    await r.plug()
    const front = await RawFrontend.open(r.guest, { queues: 2, dataPages: 256, persistent: true })
    const segments = Array.from({ length: 256 }, (_, i) => ({ gref: front.data.grefs[i] ?? 0 }))
    store.hold()
    for (let i = 0; i < 8; i++) {
      front.put({ indirect_op: BLKIF_OP.WRITE, segments, sector: BigInt(i * 4096) })
    }
    front.send()
    front.put({ operation: BLKIF_OP.WRITE }, 1)
    front.put({ operation: BLKIF_OP.WRITE_BARRIER }, 1)
    front.put({ operation: BLKIF_OP.READ }, 1)
    front.send(1)
    await store.held(4)
    await turns()
    r.machine.destroyDomain(r.guest.domid)
    // Enough round trips for the server to notice.
    for (let i = 0; i < 50; i++) await r.xs.list('/local/domain/0/backend/vbd')
    expect(r.events.map(({ kind }) => kind)).not.toContain('closed')
    const { length } = store.calls
    store.letGo()
    await r.event(({ kind }) => kind === 'closed')
    // No request was started for a guest that is gone.
    expect(store.calls).toHaveLength(length)
    expect(hv.pages).toBe(0)
  })
})

test('a store hangs: its disk stays closing, others serve, close and reconnect', async () => {
  const [hanging, sound] = [recordingStore(64), recordingStore(64)]
  await using r = await rig({ store: ({ devid }) => (devid === 51_712 ? hanging : sound) })
  await r.plug({ vdev: 'xvda' })
  await r.plug({ vdev: 'xvdb' })
  const stuck = await RawFrontend.open(r.guest, { vdev: 'xvda' })
  hanging.hold()
  stuck.put({ operation: BLKIF_OP.WRITE })
  stuck.send()
  await hanging.held(1)
  const closing = stuck[Symbol.asyncDispose]()
  await stuck.device.backendClosing()
  for (let life = 0; life < 3; life++) {
    await using front = await RawFrontend.open(r.guest, { vdev: 'xvdb' })
    expect(await front.exchange({ operation: BLKIF_OP.WRITE })).toMatchObject([{ status: OKAY }])
  }
  expect(await r.xs.read(`${stuck.device.backendPath}/state`)).toBe(String(XenbusState.Closing))
  hanging.letGo()
  await closing
})

test('a store that answers after its guest is gone does not answer the next guest', async () => {
  const store = recordingStore(64)
  await using r = await rig({ store })
  await r.plug()
  const first = await RawFrontend.open(r.guest)
  store.hold()
  first.put({ id: 77n, operation: BLKIF_OP.WRITE })
  first.send()
  await store.held(1)
  const closing = first[Symbol.asyncDispose]()
  await first.device.backendClosing()
  store.letGo()
  await closing
  await using second = await RawFrontend.open(r.guest)
  await turns()
  expect(second.ring.drain(second.ring.size)).toBe(0)
  expect(await second.exchange({ id: 78n })).toMatchObject([{ id: 78n, status: OKAY }])
})
