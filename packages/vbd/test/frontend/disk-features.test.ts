/** How the frontend of a disk uses each feature that its backend offers. */
import { describe, expect, test } from 'vitest'
import { type Disk, openVbd, plugVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { recordingStore } from '../support/recording-store.ts'
import { rig, type Rig } from '../support/rig.ts'

const SECTOR = [new Uint8Array(512)]
const backendOf = (r: Rig): string => `/local/domain/0/backend/vbd/${r.guest.domid}/51712`
const frontendOf = (r: Rig): string => `/local/domain/${r.guest.domid}/device/vbd/51712`
const resized = (disk: Disk): Promise<void> => new Promise((resolve) => disk.onResize(resolve))

describe('rings', () => {
  test.each([
    [{ queues: 5 }, '"queues"'],
    [{ ringPageOrder: 5 }, '"ringPageOrder"'],
  ])('%j are more than there are', async (options, name) => {
    await using r = await rig({ store: memoryStore(64) })
    await r.plug()
    await expect(openVbd(r.guest, { vdev: 'xvda', ...options })).rejects.toThrow(name)
  })

  test.each([
    ['multi-queue-max-queues', '"queues" expected at most 1'],
    ['max-ring-page-order', '"ringPageOrder" expected at most 0'],
  ])('more than a backend without %s has are refused', async (node, message) => {
    await using r = await rig({ store: memoryStore(64) })
    await r.plug()
    await r.event(({ kind }) => kind === 'offered')
    await r.xs.rm(`${backendOf(r)}/${node}`)
    await expect(openVbd(r.guest, { vdev: 'xvda', queues: 2, ringPageOrder: 1 })).rejects.toThrow(
      message,
    )
  })

  test('are those that the connection asks for, whatever an earlier one left', async () => {
    const store = recordingStore(1024)
    await using r = await rig({ store })
    await r.plug()
    for (const [queues, ringPageOrder] of [
      [4, 2],
      [1, 0],
      [2, 0],
      [1, 1],
      [1, 0],
    ] as const) {
      await using disk = await openVbd(r.guest, { vdev: 'xvda', queues, ringPageOrder })
      await disk.write(queues, [new Uint8Array(512).fill(queues)])
      expect(await r.xs.read(`${frontendOf(r)}/multi-queue-num-queues`)).toBe(String(queues))
      expect(r.events.findLast(({ kind }) => kind === 'connected')?.disk.stats.queues).toBe(queues)
      expect(store.bytes[queues * 512]).toBe(queues)
    }
  })
})

describe('discard', () => {
  test('is available if offered, with its limits', async () => {
    const store = recordingStore(1024, {
      discardLimits: { granularity: 4096, alignment: 512, secure: true },
    })
    await using r = await rig({ store })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    expect(disk.discardLimits).toEqual({ granularity: 4096, alignment: 512, secure: true })
    await disk.discard?.(1, 1023)
    await disk.discard?.(8, 16, { secure: true })
    await disk.discard?.(8, 0)
    expect(store.calls).toEqual(['discard 1+1023', 'discard 8+16 secure'])
    await expect(disk.discard?.(1000, 25)).rejects.toMatchObject({
      code: 'ERR_XEN_DISK',
      message: expect.stringMatching(/discard of 25 sectors at 1000/),
    })
  })

  test('is absent if not offered', async () => {
    const { discard: _, ...store } = recordingStore(64)
    await using r = await rig({ store })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    expect(disk.discard).toBeUndefined()
  })

  test('is refused as a secure one if that is not offered: nothing is sent', async () => {
    const store = recordingStore(64)
    await using r = await rig({ store })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    await expect(disk.discard?.(0, 8, { secure: true })).rejects.toThrow('"secure"')
    expect(store.calls).toEqual([])
  })
})

describe('barrier', () => {
  test('reaches the disk after earlier requests and before later ones', async () => {
    const store = recordingStore(64)
    await using r = await rig({ store })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    await Promise.all([disk.write(0, SECTOR), disk.barrier(8, SECTOR), disk.write(16, SECTOR)])
    expect(store.calls).toEqual(['write 0+1', 'flush', 'write 8+1', 'flush', 'write 16+1'])
    await expect(disk.barrier(0, [new Uint8Array(12 * 4096)])).rejects.toThrow(RangeError)
  })

  test('is refused if the backend offers none, and with several rings', async () => {
    const { flush: _, ...store } = recordingStore(64)
    await using r = await rig({ store })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    await expect(disk.barrier(0, SECTOR)).rejects.toMatchObject({ details: { status: -2 } })
    await disk.close()
    await using wide = await openVbd(r.guest, { vdev: 'xvda', queues: 2 })
    await expect(wide.barrier(0, SECTOR)).rejects.toThrow(TypeError)
  })
})

test('sectors of 4096 bytes: the frontend refuses a range that is not whole sectors', async () => {
  const store = recordingStore(64, { sectorSize: 4096, physicalSectorSize: 16_384 })
  await using r = await rig({ store })
  await r.plug()
  await using disk = await openVbd(r.guest, { vdev: 'xvda' })
  expect(disk).toMatchObject({
    sectorSize: 4096,
    physicalSectorSize: 16_384,
    discardLimits: { granularity: 4096 },
  })
  await expect(disk.read(0, SECTOR)).rejects.toThrow(RangeError)
  await expect(disk.write(4, [new Uint8Array(4096)])).rejects.toThrow(RangeError)
  await expect(disk.discard?.(0, 4)).rejects.toThrow(RangeError)
  expect(store.calls).toEqual([])
  await disk.write(8, [new Uint8Array(4096)])
  expect(store.calls).toEqual(['write 8+8'])
})

describe('size', () => {
  test('follows the backend: growing, shrinking, and of an empty drive', async () => {
    const store = recordingStore(64)
    await using r = await rig({ store })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    for (const sectors of [128, 32]) {
      const told = resized(disk)
      store.resize(sectors)
      await told
      expect(disk.sectors).toBe(sectors)
    }
    await expect(disk.read(32, SECTOR)).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  })

  test('of a drive without a medium is 0, and reads fail', async () => {
    await using r = await rig({ store: () => 'no-medium' })
    await plugVbd(r.xs, {
      frontendDomid: r.guest.domid,
      backendDomid: 0,
      vdev: 'xvda',
      readOnly: true,
      cdrom: true,
    })
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    expect(disk).toMatchObject({ sectors: 0, readOnly: true, cdrom: true, removable: true })
    await expect(disk.read(0, SECTOR)).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  })

  test('that is invalid closes the disk', async () => {
    await using r = await rig({ store: recordingStore(64) })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    await r.xs.write(`${backendOf(r)}/sectors`, 'many')
    await r.event(({ kind }) => kind === 'closed')
    await expect(disk.read(0, SECTOR)).rejects.toMatchObject({
      code: 'ERR_XEN_NEGOTIATION',
      details: { node: `${backendOf(r)}/sectors`, value: 'many' },
    })
  })
})

test('a disk is a store: it is served again to another guest, with all its features', async () => {
  const store = recordingStore(1024, { sectorSize: 4096 })
  await using below = await rig({ store })
  await below.plug()
  await using disk = await openVbd(below.guest, { vdev: 'xvda', queues: 2 })
  await using above = await rig({ store: disk })
  await above.plug()
  await using again = await openVbd(above.guest, { vdev: 'xvda' })
  expect(again).toMatchObject({ sectors: 1024, sectorSize: 4096 })
  await again.write(8, [new Uint8Array(4096).fill(9)])
  await again.discard?.(16, 8)
  const told = resized(again)
  store.resize(512)
  await told
  expect(store.calls).toEqual(['write 8+8', 'discard 16+8'])
  expect([store.bytes[8 * 512], again.sectors]).toEqual([9, 512])
})
