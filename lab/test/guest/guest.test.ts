import { expect, test } from 'vitest'
import { xlConfig } from '../../src/guest/guest.ts'

const defaults = { type: 'pv', processor: 1 } as const

test('settings are written as xl reads them', () => {
  const config = xlConfig(
    { name: 'one', disks: ['vdev=xvda,target=/tmp/a', 'vdev=xvdb,target=/tmp/b'] },
    defaults,
  )
  expect(config).toContain('name = "one"\n')
  expect(config).toContain('memory = 192\n')
  expect(config).toContain('disk = ["vdev=xvda,target=/tmp/a","vdev=xvdb,target=/tmp/b"]\n')
})

test("a guest boots its stack's kernel unless it asks for the oldest", () => {
  expect(xlConfig({ name: 'one' }, defaults)).toContain(
    'kernel = "/guest/own/vmlinux"\nramdisk = "/guest/own/initrd"\n',
  )
  expect(xlConfig({ name: 'one', kernel: 'oldest' }, defaults)).toContain(
    'kernel = "/guest/oldest/vmlinux"\nramdisk = "/guest/oldest/initrd"\n',
  )
})

test('a guest is of the type of its stack unless it asks for another', () => {
  expect(xlConfig({ name: 'one' }, { ...defaults, type: 'pvh' })).toContain('type = "pvh"\n')
  expect(xlConfig({ name: 'one', type: 'pv' }, { ...defaults, type: 'pvh' })).toContain(
    'type = "pv"\n',
  )
})
