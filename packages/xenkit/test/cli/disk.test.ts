/**
 * `xenkit disk`: several commands on one simulated machine.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openVbd } from '@xenkit/vbd'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Images } from '../../src/cli/images.ts'
import { expectComplaint, machine } from '../support/commands.ts'

let folder: string
let image: string
let iso: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-disk-'))
  image = join(folder, 'disk.img')
  iso = join(folder, 'cd.iso')
  writeFileSync(image, Buffer.alloc(64 * 512, 1))
  writeFileSync(iso, Buffer.alloc(16 * 512, 2))
})
afterAll(() => rmSync(folder, { recursive: true }))

test('a disk is attached, listed, not resized since it is read-only, and detached', async () => {
  await using m = await machine('disk')
  const id = String(m.guest.domid)
  const attached = m.start('attach', id, 'xvdb', image, '--read-only')
  await attached.says(/xvdb of domain \d+: offered/)
  await using disk = await openVbd(m.guest, { vdev: 'xvdb' })
  const first = new Uint8Array(512)
  await disk.read(0, [first])
  expect(first[0]).toBe(1)

  const [table, json] = [await m.run('list'), await m.run('list', '--json')]
  expect(table.stdout).toMatch(
    /^domid +vdev +type +backend +frontend +sectors +mode +xenkit +params\n/,
  )
  expect(table.stdout.split('\n')[1]?.split(/ +/)).toEqual([
    id,
    'xvdb',
    'vbd',
    'Connected',
    'Connected',
    '64',
    'r',
    'yes',
    image,
  ])
  expect(JSON.parse(json.stdout)).toMatchObject([
    {
      frontendDomid: m.guest.domid,
      vdev: 'xvdb',
      backendType: 'vbd',
      backendState: 'Connected',
      frontendState: 'Connected',
      sectors: 64,
      readOnly: true,
      params: image,
    },
  ])
  expect([table.code, json.code]).toEqual([0, 0])

  expectComplaint(await m.run('resize', id, 'xvdb', '1M'), /was not changed: /)
  expectComplaint(await m.run('eject', id, 'xvdb'), /xvdb of domain \d+ is not a CD-ROM drive/)
  expectComplaint(await m.run('detach', id, 'xvdc'), /has no disk xvdc/)

  expect(await m.run('detach', id, 'xvdb')).toEqual({ code: 0, stdout: '', stderr: '' })
  expect(await attached.ended).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/^xvdb of domain \d+: not changed: .*\n$/),
  })
  expect((await m.run('list')).stdout.trimEnd().split('\n')).toHaveLength(1)
}, 120_000)

test('a container is served as raw if an option or the params say so', async () => {
  await using m = await machine('disk')
  const id = String(m.guest.domid)
  const container = join(folder, 'disk.qcow2')
  writeFileSync(container, Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(1020)]))
  expectComplaint(await m.run('attach', id, 'xvdb', container), /qcow2 container.*qemu-nbd/)
  expect((await m.run('attach', id, 'xvdb', container, '--format', 'qcow2')).code).toBe(2)
  const attached = m.start('attach', id, 'xvdb', container, '--format', 'raw')
  await attached.says(/xvdb of domain \d+: offered/)
  await m.run('detach', id, 'xvdb', '--force')
  expect((await attached.ended).code).toBe(0)

  const images = new Images({ readOnly: false, locking: true })
  const named = { params: container, target: container, format: 'raw' }
  const disk = { frontendDomid: 1, devid: 51712, backendType: 'vbd', ...named } as const
  const rest = { readOnly: false, cdrom: false, removable: false, discard: false }
  const unsaid = images.store({ ...disk, ...rest, formatSaid: false })
  await expect(unsaid).rejects.toThrow(/qcow2 container/)
  const store = await images.store({ ...disk, ...rest, formatSaid: true })
  expect(store).toMatchObject({ sectors: 2 })
  if (typeof store === 'object') await images.release(store)
}, 120_000)

test('a CD-ROM drive: empty, inserted, ejected, detached by force', async () => {
  await using m = await machine('disk')
  const id = String(m.guest.domid)
  const attached = m.start('attach', id, 'xvdc', '--cdrom')
  await attached.says(/xvdc of domain \d+: offered/)
  const disk = await openVbd(m.guest, { vdev: 'xvdc' })
  expect(await m.run('insert', id, 'xvdc', iso)).toEqual({ code: 0, stdout: '', stderr: '' })
  expect(JSON.parse((await m.run('list', '--json')).stdout)).toMatchObject([
    { cdrom: true, sectors: 16, params: iso },
  ])
  expectComplaint(
    await m.run('insert', id, 'xvdc', join(folder, 'nowhere.iso')),
    /nowhere\.iso" can't be opened/,
  )
  expect(JSON.parse((await m.run('list', '--json')).stdout)).toMatchObject([
    { sectors: 16, params: iso },
  ])
  const empty = join(folder, 'empty.iso')
  writeFileSync(empty, '')
  expect(await m.run('insert', id, 'xvdc', empty)).toEqual({ code: 0, stdout: '', stderr: '' })
  expect(JSON.parse((await m.run('list', '--json')).stdout)).toMatchObject([
    { sectors: 0, params: empty },
  ])
  expect(await m.run('eject', id, 'xvdc')).toEqual({ code: 0, stdout: '', stderr: '' })
  expect(JSON.parse((await m.run('list', '--json')).stdout)).toMatchObject([
    { sectors: 0, params: '' },
  ])
  await expect(disk.read(0, [new Uint8Array(512)])).rejects.toThrow()
  // The frontend can't revoke its grants while the vanished backend maps them, so the guest closes
  // first.
  await disk.close()
  expect(await m.run('detach', id, 'xvdc', '--force')).toEqual({ code: 0, stdout: '', stderr: '' })
  expect((await attached.ended).code).toBe(0)
}, 120_000)
