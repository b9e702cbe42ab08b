// Tests of a store through a guest, on a simulated machine.
import {
  type BlockStore,
  openVbd,
  createMachine,
  faultyStore,
  memoryStore,
  openXenstore,
  plugVbd,
  serveVbd,
} from 'xenkit'
import { expect, test } from 'vitest'
import { trackedStore } from './tracked-store.ts'

/** A machine whose guest has `store` as its disk xvda. Ends the service, then looks for leaks. */
async function guestWithDisk(store: BlockStore) {
  const machine = createMachine()
  const dom0 = machine.createDomain()
  const guest = machine.createDomain()
  let close: () => void
  const closed = new Promise<void>((resolve) => (close = resolve))
  const stop = new AbortController()
  const served = serveVbd(dom0, {
    store,
    signal: stop.signal,
    onEvent: ({ kind }) => void (kind === 'closed' && close()),
  })
  using xs = await openXenstore(dom0.xenstore)
  await plugVbd(xs, { frontendDomid: guest.domid, backendDomid: 0, vdev: 'xvda', readOnly: false })
  return {
    machine,
    guest,
    closed,
    disk: await openVbd(guest, { vdev: 'xvda' }),
    async [Symbol.asyncDispose]() {
      stop.abort()
      await served
      await machine[Symbol.asyncDispose]()
    },
  }
}

test('a guest writes: the blocks that it wrote to are known', async () => {
  const store = trackedStore(memoryStore(2048))
  await using rig = await guestWithDisk(store)
  await rig.disk.write(127, [new Uint8Array(1024)]) // the end of block 0, the start of block 1
  expect([...store.changed]).toEqual([0, 1])
})

test('a write fails: the guest learns of it, and its block counts as changed', async () => {
  const store = trackedStore(
    faultyStore(memoryStore(2048), ({ kind }) =>
      kind === 'write' ? { error: new Error('no space') } : undefined,
    ),
  )
  await using rig = await guestWithDisk(store)
  await expect(rig.disk.write(0, [new Uint8Array(512)])).rejects.toThrow('answered -1')
  expect([...store.changed]).toEqual([0])
  await rig.disk.read(0, [new Uint8Array(512)]) // the disk goes on
})

test('a guest dies during a write: the write is finished, and nothing stays open', async () => {
  const memory = memoryStore(2048)
  const deadly: BlockStore = {
    ...memory,
    async write(sector, from) {
      rig.machine.destroyDomain(rig.guest.domid)
      await memory.write(sector, from)
    },
  }
  await using rig = await guestWithDisk(trackedStore(deadly))
  await expect(rig.disk.write(0, [new Uint8Array(512).fill(7)])).rejects.toThrow()
  await rig.closed
  expect(memory.bytes[0]).toBe(7)
})
