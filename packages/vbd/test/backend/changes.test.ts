/** Disks that change while a guest uses them: another medium, another size. */
import { ToolstackError } from '@xenkit/xenbus'
import { openXenstore } from '@xenkit/xenstore-client'
import { describe, expect, test } from 'vitest'
import {
  type BlockStore,
  openVbd,
  changeVbdMedium,
  plugVbd,
  resizeVbd,
  serveVbd,
  unplugVbd,
} from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { rig, type Rig } from '../support/rig.ts'

const addressIn = (r: Rig) => ({ frontendDomid: r.guest.domid, backendDomid: 0, vdev: 'xvda' })
const sectorsIn = (r: Rig): Promise<string> =>
  r.xs.read(`/local/domain/0/backend/vbd/${r.guest.domid}/51712/sectors`)
const sectorsBecome = (r: Rig, value: string): Promise<true> =>
  r.xs.wait(async (view) =>
    (await view.read(`/local/domain/0/backend/vbd/${r.guest.domid}/51712/sectors`)) === value
      ? true
      : undefined,
  )
const paramsIn = (r: Rig): Promise<string> =>
  r.xs.read(`/local/domain/0/backend/vbd/${r.guest.domid}/51712/params`)

/** A medium whose bytes are all the same. */
function medium(sectors: number, fill: number): BlockStore {
  const { bytes, ...store } = memoryStore(sectors)
  bytes.fill(fill)
  return store
}

async function withDrive(media: Readonly<Record<string, BlockStore>>, params: string) {
  const released: BlockStore[] = []
  const r = await rig({
    store: ({ target }) => (target === '' ? 'no-medium' : (media[target] ?? 'decline')),
    release: (store) => void released.push(store),
  })
  await plugVbd(r.xs, { ...addressIn(r), readOnly: true, cdrom: true, params })
  return { r, released }
}

const read = async (disk: BlockStore, sector: number): Promise<number | undefined> => {
  const into = new Uint8Array(512)
  await disk.read(sector, [into])
  return into[0]
}

describe('a CD-ROM drive', () => {
  test('starts empty, takes a medium, then another one, and releases it', async () => {
    const media = { a: medium(64, 1), b: medium(128, 2) }
    const { r, released } = await withDrive(media, '')
    await using _ = r
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    expect(await sectorsIn(r)).toBe('0')
    await changeVbdMedium(r.xs, addressIn(r), { params: 'a' })
    expect(await sectorsIn(r)).toBe('64')
    await changeVbdMedium(r.xs, addressIn(r), { params: 'b' })
    expect(released).toEqual([media.a])
    expect(await sectorsIn(r)).toBe('128')
    await changeVbdMedium(r.xs, addressIn(r), { params: '' })
    expect(await sectorsIn(r)).toBe('0')
    expect(released).toEqual([media.a, media.b])
    expect(disk.readOnly).toBe(true)
    expect(r.events.filter(({ kind }) => kind === 'changed')).toHaveLength(3)
  })

  test('the guest reads the current medium, and gets an error without one', async () => {
    const { r } = await withDrive({ a: medium(64, 1), b: medium(32, 2) }, 'a')
    await using _ = r
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    expect(await read(disk, 40)).toBe(1)
    await changeVbdMedium(r.xs, addressIn(r), { params: 'b' })
    expect(await read(disk, 0)).toBe(2)
    // The guest still uses the size that it read when it connected.
    await expect(read(disk, 40)).rejects.toThrow()
    await changeVbdMedium(r.xs, addressIn(r), { params: '' })
    await expect(read(disk, 0)).rejects.toThrow()
    await changeVbdMedium(r.xs, addressIn(r), { params: 'a' })
    expect(await read(disk, 40)).toBe(1)
  })

  test('a change by `xl cd-insert`, which waits for no answer, is followed', async () => {
    const { r } = await withDrive({ a: medium(64, 1) }, '')
    await using _ = r
    await using _disk = await openVbd(r.guest, { vdev: 'xvda' })
    await r.xs.write(`/local/domain/0/backend/vbd/${r.guest.domid}/51712/params`, 'a')
    await r.event(({ kind }) => kind === 'changed')
    expect(await sectorsBecome(r, '64')).toBe(true)
  })

  test("a medium that doesn't exist is refused: the former one stays", async () => {
    const { r, released } = await withDrive({ a: medium(64, 1) }, 'a')
    await using _ = r
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    await expect(changeVbdMedium(r.xs, addressIn(r), { params: 'nowhere' })).rejects.toThrow(
      /no medium is named "nowhere"/,
    )
    expect(await paramsIn(r)).toBe('a')
    expect(await read(disk, 0)).toBe(1)
    expect(released).toEqual([])
    // The former name again is no change.
    await changeVbdMedium(r.xs, addressIn(r), { params: 'a' })
    expect(r.events.map(({ kind }) => kind)).toEqual(['offered', 'connected', 'refused'])
  })

  test('the toolstack gets all of the reason of a refusal, the guest less', async () => {
    const why = 'open nbd://secret.lan/vm failed'
    await using r = await rig({
      store({ target }) {
        if (target === '') return 'no-medium'
        throw new Error(why)
      },
    })
    await plugVbd(r.xs, { ...addressIn(r), readOnly: true, cdrom: true, params: '' })
    await r.event(({ kind }) => kind === 'offered')
    await expect(changeVbdMedium(r.xs, addressIn(r), { params: 'vm' })).rejects.toThrow(why)
    using seen = await openXenstore(r.guest.xenstore)
    const directory = `backend/vbd/${r.guest.domid}/51712`
    const result = await seen.read(`/local/domain/0/${directory}/xenkit-result`)
    const [request = '', ...words] = result.split(' ')
    expect(words.join(' ')).toBe('unexpected: Error: open … failed')
    const refusal = `/local/domain/0/error/${directory}/xenkit-refusal`
    expect(await r.xs.read(refusal)).toBe(`${request} unexpected: Error: ${why}`)
    await expect(seen.read(refusal)).rejects.toMatchObject({ errno: 'EACCES' })
    await unplugVbd(r.xs, addressIn(r), { signal: AbortSignal.abort() })
    expect(await r.xs.exists('/local/domain/0/error/backend')).toBe(false)
  })

  test('a read in flight ends before the medium is released', async () => {
    const order: string[] = []
    let letGo = (): void => {}
    let arrived = (): void => {}
    const call = new Promise<void>((resolve) => (arrived = resolve))
    const slow: BlockStore = {
      sectors: 64,
      async read() {
        arrived()
        await new Promise<void>((resolve) => (letGo = resolve))
        order.push('read')
      },
    }
    await using r = await rig({
      store: ({ target }) => (target === '' ? 'no-medium' : slow),
      release: () => void order.push('released'),
    })
    await plugVbd(r.xs, { ...addressIn(r), readOnly: true, cdrom: true, params: 'slow' })
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    const reading = disk.read(0, [new Uint8Array(512)])
    await call
    const ejected = changeVbdMedium(r.xs, addressIn(r), { params: '' })
    await sectorsBecome(r, '0')
    letGo()
    await Promise.all([reading, ejected])
    expect(order).toEqual(['read', 'released'])
  })
})

describe('a size', () => {
  function growing(): BlockStore & { sectors: number } {
    const listeners = new Set<() => void>()
    return {
      sectors: 64,
      read: (_, into) => into.forEach((buffer) => buffer.fill(9)),
      write: () => {},
      resize(sectors) {
        if (sectors > 1000) throw new RangeError('the medium is full')
        this.sectors = sectors
        for (const listener of listeners) listener()
      },
      onResize(listener) {
        listeners.add(listener)
        return { [Symbol.dispose]: () => void listeners.delete(listener) }
      },
    }
  }

  test('is changed while the guest is connected', async () => {
    await using r = await rig({ store: growing() })
    await r.plug()
    await using _ = await openVbd(r.guest, { vdev: 'xvda' })
    await resizeVbd(r.xs, addressIn(r), { sectors: 128 })
    expect(await sectorsIn(r)).toBe('128')
    await resizeVbd(r.xs, addressIn(r), { sectors: 32 })
    expect(await sectorsIn(r)).toBe('32')
    // The same request once more, after somebody else has resized the store, is carried out again.
    expect(
      await r.xs.exists(`/local/domain/0/backend/vbd/${r.guest.domid}/51712/xenkit-sectors`),
    ).toBe(false)
  })

  test("that the store can't have is refused with the store's reason", async () => {
    await using r = await rig({ store: growing() })
    await r.plug()
    await using _ = await openVbd(r.guest, { vdev: 'xvda' })
    for (let i = 0; i < 2; i++) {
      await expect(resizeVbd(r.xs, addressIn(r), { sectors: 2000 })).rejects.toThrow(
        /the medium is full/,
      )
    }
    expect(await sectorsIn(r)).toBe('64')
  })

  test('of a store without `resize` is refused', async () => {
    await using r = await rig({ store: { sectors: 64, read: () => {} } })
    await r.plug()
    await using _ = await openVbd(r.guest, { vdev: 'xvda' })
    await expect(resizeVbd(r.xs, addressIn(r), { sectors: 128 })).rejects.toThrow(
      /store can't be resized/,
    )
  })
})

test('a medium can be changed in a CD-ROM drive alone', async () => {
  await using r = await rig({ store: memoryStore(64) })
  await r.plug({ params: 'a' })
  await using _ = await openVbd(r.guest, { vdev: 'xvda' })
  await expect(changeVbdMedium(r.xs, addressIn(r), { params: 'b' })).rejects.toThrow(
    /is no CD-ROM drive/,
  )
})

test("a disk that xenkit doesn't serve is not changed", async () => {
  await using r = await rig({ store: () => 'decline' })
  await r.plug()
  await expect(resizeVbd(r.xs, addressIn(r), { sectors: 128 })).rejects.toThrow(ToolstackError)
})

test('a change fails if the disk is detached before it answers', async () => {
  let asked = (): void => {}
  const call = new Promise<void>((resolve) => (asked = resolve))
  await using r = await rig({
    store: {
      sectors: 64,
      read: () => {},
      resize: () =>
        new Promise<void>((resolve) => {
          asked()
          void call.then(() => setImmediate(resolve))
        }),
    },
  })
  await r.plug()
  await using _ = await openVbd(r.guest, { vdev: 'xvda' })
  const answer = resizeVbd(r.xs, addressIn(r), { sectors: 128 })
  await call
  await r.xs.rm(`/local/domain/0/backend/vbd/${r.guest.domid}/51712`)
  await expect(answer).rejects.toThrow(/it was detached/)
})

test('a medium that another disk writes to is refused', async () => {
  const shared = memoryStore(64)
  const stop = new AbortController()
  await using r = await rig({ store: () => 'decline' })
  const serving = serveVbd(r.dom0, {
    store: ({ target }) => (target === '' ? 'no-medium' : shared),
    signal: stop.signal,
  })
  await plugVbd(r.xs, { ...addressIn(r), vdev: 'xvdb', readOnly: false, params: 'shared' })
  await plugVbd(r.xs, { ...addressIn(r), readOnly: true, cdrom: true, params: '' })
  await using _ = await openVbd(r.guest, { vdev: 'xvda' })
  await using _b = await openVbd(r.guest, { vdev: 'xvdb' })
  await expect(changeVbdMedium(r.xs, addressIn(r), { params: 'shared' })).rejects.toThrow(
    /in use by xvdb/,
  )
  stop.abort()
  await serving
})
