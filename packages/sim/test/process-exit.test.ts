import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

test('a bound port keeps the process running; when all are closed it ends by itself', async () => {
  const program = fileURLToPath(new URL('support/one-event.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--conditions=xenkit-source', program], { timeout: 20_000 })
  expect(stdout).toBe('event\n')
})
