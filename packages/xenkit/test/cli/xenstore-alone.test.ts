/** Commands that reach a running server through xenstore alone, without Xen's other devices. */
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { plugVbd } from '@xenkit/vbd'
import { xenstoreSocket } from '@xenkit/xen'
import { openXenstore } from '@xenkit/xenstore-client'
import { expect, test } from 'vitest'
import { startDaemon } from '../support/xenstored-daemon.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')
const node = ['--import', 'tsx', '--conditions=xenkit-source']

test.skipIf(existsSync('/dev/xen/gntdev'))(
  'disk list and detach need xenstore alone',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'xenkit-control-'))
    const path = join(folder, 'socket')
    const disk = (...args: string[]) =>
      new Promise<unknown>((resolve) => {
        const env = { ...process.env, XENSTORED_PATH: path }
        execFile(process.execPath, [...node, main, 'disk', ...args], { env }, (_, stdout, stderr) =>
          resolve({ stdout, stderr }),
        )
      })
    try {
      await using _daemon = await startDaemon(path)
      using xs = await openXenstore(xenstoreSocket(path))
      await xs.write('/local/domain/0/domid', '0')
      await xs.write('/local/domain/5/domid', '5')
      const address = { frontendDomid: 5, backendDomid: 0, vdev: 'xvdb' }
      await plugVbd(xs, { ...address, readOnly: false, params: '/srv/disk.img' })
      const stdout = expect.stringMatching(/5 +xvdb +vbd .*\/srv\/disk\.img\n$/)
      expect(await disk('list')).toEqual({ stdout, stderr: '' })
      expect(await disk('resize', '5', 'xvdc', '1M')).toMatchObject({
        stderr: expect.stringMatching(/domain 5 has no disk xvdc/),
      })
      expect(await disk('detach', '5', 'xvdb', '--force')).toEqual({ stdout: '', stderr: '' })
      expect(await disk('list')).toMatchObject({ stdout: expect.not.stringContaining('xvdb') })
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
  60_000,
)
