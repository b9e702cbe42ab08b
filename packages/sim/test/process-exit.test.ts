import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

test.each([
  ['a bound port', 'one-event.ts', 'event\n'],
  ['a connection through a xenstore ring', 'one-reply.ts', 'reply\n'],
])(
  '%s keeps the process running; when all are closed it ends by itself',
  async (_what, file, output) => {
    const program = fileURLToPath(new URL(`support/${file}`, import.meta.url))
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', '--conditions=xenkit-source', program],
      { timeout: 20_000 },
    )
    expect(stdout).toBe(output)
  },
)
