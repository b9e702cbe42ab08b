/** examples/nbd-disk.ts with a simulated guest, whose disk is on Debian's nbdkit. */
import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '../../..')

/**
 * Whether to skip the test because nbdkit isn't installed. On CI it has to be, so nothing is
 * skipped.
 */
const missing =
  process.env['CI'] !== 'true' && spawnSync('nbdkit', ['--version']).error !== undefined
if (missing) console.warn("not run: nbdkit can't be run (Debian: nbdkit)")

test.skipIf(missing)('runs unchanged, and ends without an error of its server', async () => {
  // nbdkit runs the command as its child, and exits when the command does.
  const sim = `"${process.execPath}" --import tsx --conditions=xenkit-source packages/xenkit/src/cli/main.ts sim --writes 50 examples/nbd-disk.ts "nbd+unix:///?socket=$unixsocket"`
  const { stdout, stderr } = await promisify(execFile)(
    'nbdkit',
    ['-U', '-', 'memory', '256K', '--run', sim],
    { cwd: root, timeout: 25_000 },
  )
  expect(stderr).toBe('')
  expect(stdout).toMatch(/guest: read 512 sectors of xvda, sha256 [0-9a-f]{64}/)
  expect(stdout).toMatch(/guest: 50 random writes read back as written/)
})
