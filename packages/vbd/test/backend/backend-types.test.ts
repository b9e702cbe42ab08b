/** Backend types: directories in which toolstacks put disks, and the `params` that they write. */
import { describe, expect, test } from 'vitest'
import {
  openVbd,
  plugVbd,
  type RequestedDisk,
  serveVbd,
  unplugVbd,
  VBD_BACKEND_TYPES,
} from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { rig } from '../support/rig.ts'

describe('backendTypes', () => {
  test.each(VBD_BACKEND_TYPES)(
    '%s: a disk of backend/%s is served to device/vbd',
    async (backendType) => {
      await using r = await rig({ store: () => 'decline' })
      const stop = new AbortController()
      const asked: RequestedDisk[] = []
      const serving = serveVbd(r.dom0, {
        backendTypes: VBD_BACKEND_TYPES,
        signal: stop.signal,
        store(disk) {
          asked.push(disk)
          return memoryStore(64)
        },
      })
      const address = {
        frontendDomid: r.guest.domid,
        backendDomid: r.dom0.domid,
        backendType,
        vdev: 'xvda',
      }
      await plugVbd(r.xs, { ...address, readOnly: false, params: 'aio:/a:b.img' })
      expect(await r.xs.read(`/local/domain/${r.guest.domid}/device/vbd/51712/backend`)).toBe(
        `/local/domain/0/backend/${backendType}/${r.guest.domid}/51712`,
      )
      {
        await using disk = await openVbd(r.guest, { vdev: 'xvda' })
        await disk.write(0, [new Uint8Array(512).fill(7)])
      }
      const formatSaid = backendType !== 'vbd'
      const read = { target: formatSaid ? '/a:b.img' : 'aio:/a:b.img', formatSaid }
      expect(asked).toMatchObject([{ backendType, params: 'aio:/a:b.img', format: 'raw', ...read }])
      await unplugVbd(r.xs, address)
      expect(await r.xs.exists('/local/domain/0/backend')).toBe(false)
      stop.abort()
      await serving
    },
  )

  test.each([
    ['raw:/a:b.img', { target: '/a:b.img', format: 'raw', formatSaid: true }],
    ['/a:b.img', { target: '/a:b.img', format: 'raw', formatSaid: false }],
    ['rawest:/a', { target: 'rawest:/a', format: 'raw', formatSaid: false }],
  ])('the params of a vbd, %s', async (params, expected) => {
    const asked: RequestedDisk[] = []
    await using r = await rig({
      store(disk) {
        asked.push(disk)
        return memoryStore(64)
      },
    })
    await r.plug({ params })
    await using _disk = await openVbd(r.guest, { vdev: 'xvda' })
    expect(asked).toMatchObject([{ params, ...expected }])
  })

  test('by default only disks of backend/vbd are served', async () => {
    const asked: string[] = []
    await using r = await rig({
      store(disk) {
        asked.push(disk.backendType)
        return memoryStore(64)
      },
    })
    for (const [i, backendType] of (['qdisk', 'vbd3', 'vbd'] as const).entries()) {
      await plugVbd(r.xs, {
        frontendDomid: r.guest.domid,
        backendDomid: 0,
        backendType,
        vdev: `xvd${'abc'[i]}`,
        readOnly: false,
      })
    }
    await r.event(({ kind }) => kind === 'offered')
    expect(asked).toEqual(['vbd'])
  })
})

test.each([
  ['vbd', '/dev/vg/disk', 'raw', '/dev/vg/disk'],
  ['vbd', 'tap:aio:/disk.img', 'raw', 'tap:aio:/disk.img'],
  ['vbd3', 'aio:/disk.img', 'raw', '/disk.img'],
  ['vbd3', 'vhd:/disk.vhd', 'vhd', '/disk.vhd'],
  ['qdisk', 'qcow2:/a:b.qcow2', 'qcow2', '/a:b.qcow2'],
  ['qdisk', 'aio:', 'raw', ''],
  ['qdisk', '', 'raw', ''],
] as const)('%s, params %s: format %s, target %s', async (backendType, params, format, target) => {
  await using r = await rig({ store: () => 'decline' })
  const stop = new AbortController()
  const asked = new Promise<RequestedDisk>((resolve) => {
    void serveVbd(r.dom0, {
      backendTypes: VBD_BACKEND_TYPES,
      signal: stop.signal,
      store(disk) {
        resolve(disk)
        return 'decline'
      },
    })
  })
  await plugVbd(r.xs, {
    frontendDomid: r.guest.domid,
    backendDomid: 0,
    backendType,
    vdev: 'xvda',
    readOnly: true,
    cdrom: true,
    params,
  })
  expect(await asked).toMatchObject({
    params,
    format,
    target,
    readOnly: true,
    cdrom: true,
    removable: true,
  })
  stop.abort()
})
