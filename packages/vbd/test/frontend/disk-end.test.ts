/** Calls of a disk at its end: closed twice, after a failed part, or with its backend gone. */
import { describe, expect, test } from 'vitest'
import { type BlockStore, openVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { type Rig, rig } from '../support/rig.ts'

test('close may be called several times, also concurrently', async () => {
  await using r = await rig({ store: memoryStore(64) })
  await r.plug()
  await using disk = await openVbd(r.guest, { vdev: 'xvda' })
  await Promise.all([disk.close(), disk.close()])
  await disk.close()
  await expect(disk.read(0, [new Uint8Array(512)])).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
})

describe('a transfer of several requests, one of which fails', () => {
  test('rejects only when its buffers are no longer used', async () => {
    let letGo: (() => void) | undefined
    const held = new Promise<void>((resolve) => (letGo = resolve))
    const store: BlockStore = {
      sectors: 4096,
      async read(sector, into) {
        if (sector === 0) throw new Error('bad sector')
        await held
        for (const piece of into) piece.fill(7)
      },
    }
    await using r = await rig({ store: () => store })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    const buffer = new Uint8Array(2 ** 21) // two of the longest requests
    let over = false
    const reading = disk.read(0, [buffer]).finally(() => (over = true))
    reading.catch(() => {})
    await r.event(({ kind }) => kind === 'store-failed')
    // Enough round trips for the first answer to arrive.
    for (let i = 0; i < 50; i++) await r.xs.read('/local/domain/0/name').catch(() => {})
    expect(over).toBe(false)
    letGo?.()
    await expect(reading).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  })
})

describe('a backend that closes', () => {
  test('gets the rings back at once, and later calls of the disk fail', async () => {
    const held: (() => void)[] = []
    const memory = memoryStore(64)
    await using r = await rig({
      store: {
        ...memory,
        write: (sector, from) =>
          new Promise<void>((resolve) => held.push(() => (memory.write(sector, from), resolve()))),
      },
    })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    await disk.read(0, [new Uint8Array(512)])
    await r.stop()
    await expect(disk.read(0, [new Uint8Array(512)])).rejects.toMatchObject({
      code: 'ERR_XEN_DISK',
    })
    await expect(disk.flush()).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  })
})

describe('the own domain dies', () => {
  const ends = [
    ['is destroyed', (r: Rig) => r.machine.destroyDomain(r.guest.domid)],
    ['is closed in this program', (r: Rig) => r.guest.close()],
  ] as const

  test.each(ends)('it %s: calls of the disk reject with the reason', async (_, die) => {
    const memory = memoryStore(64)
    let asked = (): void => {}
    const atStore = new Promise<void>((resolve) => (asked = resolve))
    let answer = (): void => {}
    const held = new Promise<void>((resolve) => (answer = resolve))
    const store: BlockStore = {
      ...memory,
      async read(sector, into) {
        asked()
        await held
        return memory.read(sector, into)
      },
    }
    await using r = await rig({ store })
    await r.plug()
    const disk = await openVbd(r.guest, { vdev: 'xvda' })
    const pending = disk.read(0, [new Uint8Array(512)])
    await atStore
    await die(r)
    // This call comes before the disk has noticed: there is nobody to notify.
    const next = disk.read(0, [new Uint8Array(512)])
    for (const reading of [pending, next]) {
      await expect(reading).rejects.toMatchObject({
        code: expect.not.stringMatching('ERR_XEN_DISK'),
      })
    }
    await expect(disk.close()).rejects.toMatchObject({ code: 'ERR_XEN_XENSTORE_CLOSED' })
    answer()
  })

  test('while openVbd runs: it rejects', async () => {
    await using r = await rig({ store: memoryStore(64) })
    const attaching = openVbd(r.guest, { vdev: 'xvda' })
    await r.xs.exists('/')
    r.machine.destroyDomain(r.guest.domid)
    await expect(attaching).rejects.toMatchObject({ code: 'ERR_XEN_XENSTORE_CLOSED' })
  })
})

test.each([-1, 1.5, 2 ** 29, 'xvda0', 'vda', ''])(
  'vdev %j is no disk: openVbd rejects at once',
  async (vdev) => {
    await using r = await rig({ store: memoryStore(64) })
    await expect(
      openVbd(r.guest, { vdev, signal: AbortSignal.timeout(1000) }),
    ).rejects.toBeInstanceOf(RangeError)
  },
)
