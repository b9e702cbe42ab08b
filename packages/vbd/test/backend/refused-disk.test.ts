/** Disks that can't be served: who gets the reason, and that their guests don't get the disk. */
import { openXenstore } from '@xenkit/xenstore-client'
import { describe, expect, test } from 'vitest'
import { type StoreAnswer, StoreInUseError, openVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { RawFrontend } from '../support/raw-frontend.ts'
import { heardOf, rig } from '../support/rig.ts'

const noImage = (): never => {
  throw new Error('no such image')
}

test.each([
  ['throws', noImage],
  ['rejects', async () => noImage()],
])('a store function that %s: the listener and the error node are told', async (_, store) => {
  await using r = await rig({ store })
  await r.plug({ params: 'missing.img' })
  const { disk, error } = await r.event(({ kind }) => kind === 'failed')
  expect(error).toMatchObject({ message: 'no such image' })
  expect(disk).toMatchObject({
    frontendDomid: r.guest.domid,
    devid: 51712,
    params: 'missing.img',
    readOnly: false,
  })
  await r.event(({ kind }) => kind === 'closed')
  expect(
    await r.xs.read(`/local/domain/0/error/backend/vbd/${r.guest.domid}/51712/error`),
  ).toContain('no such image')
})

test('the guest can read the reason but no details of this host', async () => {
  const why = 'image "/srv/secret/a b.img" can\'t be opened: ENOENT, open nbd://secret.lan/vm'
  const throws = (): never => {
    throw new Error(why)
  }
  await using r = await rig({ store: throws })
  await r.plug()
  expect(await r.event(({ kind }) => kind === 'failed')).toMatchObject({ error: { message: why } })
  await r.event(({ kind }) => kind === 'closed')
  const errorNode = `/local/domain/0/error/backend/vbd/${r.guest.domid}/51712/error`
  expect(await r.xs.read(errorNode)).toBe(`unexpected: Error: ${why}`)
  using seen = await openXenstore(r.guest.xenstore)
  const directory = `/local/domain/0/backend/vbd/${r.guest.domid}/51712`
  const told = await seen.read(`${directory}/hotplug-error`)
  expect(told).toBe('unexpected: Error: image "…" can\'t be opened: ENOENT, open …')
  for (const node of await seen.list(directory)) {
    expect(await seen.read(`${directory}/${node}`)).not.toContain('secret')
  }
  await expect(seen.read(errorNode)).rejects.toMatchObject({ errno: 'EACCES' })
})

test('control characters that a guest writes are escaped in the reason', async () => {
  await using r = await rig({ store: memoryStore(64) })
  await r.plug()
  const front = await RawFrontend.open(r.guest, { nodes: { 'ring-ref': '\x9b31m\u202e7\x7f' } })
  const { error } = await r.event(({ kind }) => kind === 'failed')
  await front[Symbol.asyncDispose]()
  const shown = 'holds "\\u009b31m\\u202e7\\u007f", expected a number'
  expect(error).toMatchObject({
    code: 'ERR_XEN_NEGOTIATION',
    message: expect.stringContaining(shown),
  })
  expect(
    await r.xs.read(`/local/domain/0/error/backend/vbd/${r.guest.domid}/51712/error`),
  ).toContain(shown)
})

describe('a guest that connects to a disk which was refused', () => {
  const shared = memoryStore(64)
  const refused: readonly [string, () => StoreAnswer, object][] = [
    ['a store that is in use', () => shared, StoreInUseError],
    ['a store, by a function that throws', noImage, Error],
    ['a store of half a sector', () => ({ ...memoryStore(64), sectors: 0.5 }), TypeError],
    ['no medium, which is for CD-ROM drives', () => 'no-medium', TypeError],
    ['a store of no size', () => ({ ...memoryStore(64), sectors: 0 }), RangeError],
  ]
  test.each(refused)('%s: does not get it', async (_, store, expected) => {
    await using r = await rig({ store: ({ devid }) => (devid === 51712 ? shared : store()) })
    await r.plug({ vdev: 'xvda' })
    await using first = await openVbd(r.guest, { vdev: 'xvda' })
    await r.plug({ vdev: 'xvdb' })
    const { error } = await r.event(({ kind, disk }) => kind === 'failed' && disk.devid === 51728)
    expect(error).toBeInstanceOf(expected)
    const enough = new AbortController()
    const attaching = openVbd(r.guest, { vdev: 'xvdb', signal: enough.signal })
    const outcome = attaching.then(
      () => 'attached',
      () => 'refused',
    )
    await r.event(({ kind, disk }) => kind === 'closed' && disk.devid === 51728)
    await heardOf(r)
    enough.abort()
    expect(await outcome).toBe('refused')
    expect(
      r.events.filter(({ kind, disk }) => kind === 'connected' && disk.devid === 51728),
    ).toEqual([])
    await first.write(0, [new Uint8Array(512).fill(1)])
    expect(shared.bytes[0]).toBe(1)
  })
})

test('disks that a store function declines cause no event', async () => {
  await using r = await rig({
    store: ({ devid }) => (devid === 51712 ? memoryStore(64) : 'decline'),
  })
  await r.plug({ vdev: 'xvdb' })
  await r.plug({ vdev: 'xvda' })
  await using disk = await openVbd(r.guest, { vdev: 'xvda' })
  await disk.flush()
  expect(r.events.map(({ disk: { devid } }) => devid)).not.toContain(51728)
})
