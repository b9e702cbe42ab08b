import { expect, test } from 'vitest'
import { xlConfig } from '../src/guest/guest.ts'

test('settings are written as xl reads them', () => {
  const config = xlConfig({ name: 'one', disks: ['vdev=xvda,target=/tmp/a', 'vdev=xvdb,target=/tmp/b'] }, 1)
  expect(config).toContain('name = "one"\n')
  expect(config).toContain('memory = 192\n')
  expect(config).toContain('disk = ["vdev=xvda,target=/tmp/a","vdev=xvdb,target=/tmp/b"]\n')
})
