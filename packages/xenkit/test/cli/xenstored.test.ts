/** `xenkit xenstored` as its user sees it: start, end, and errors. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startDaemon } from '../support/xenstored-daemon.ts'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-xenstored-'))
  path = join(folder, 'socket')
})
afterEach(() => rmSync(folder, { recursive: true }))

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  'one line when it is ready; %s ends it and removes the socket',
  async (signal) => {
    await using daemon = await startDaemon(path)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const client = connect(path)
    await once(client, 'connect')
    const closed = once(client, 'close')
    expect(await daemon.stop(signal)).toBe(0)
    await closed
    expect(existsSync(path)).toBe(false)
    expect(daemon.output).toEqual({ stdout: `xenstored listens on ${path}\n`, stderr: '' })
  },
)

test('a stale socket of a killed one is replaced', async () => {
  await using killed = await startDaemon(path)
  await killed.stop('SIGKILL')
  expect(existsSync(path)).toBe(true)
  await using daemon = await startDaemon(path)
  await once(connect(path), 'connect')
  expect(await daemon.stop('SIGTERM')).toBe(0)
})

test('a client that sends garbage is logged', async () => {
  await using daemon = await startDaemon(path)
  const garbage = connect(path)
  garbage.resume().write(Buffer.alloc(64, 0xff))
  await once(garbage, 'close')
  expect(await daemon.stop('SIGTERM')).toBe(0)
  expect(daemon.output.stderr).toBe(
    'xenstored: connection of domain 0 ended: xenstore header field "len" expected 0..4096, got 4294967295\n',
  )
})

test('one in use stays with its owner', async () => {
  await using daemon = await startDaemon(path)
  await expectComplaint(
    path,
    /it is in use; stop the xenstored that listens there or choose another path/,
  )
  await once(connect(path), 'connect')
  expect(await daemon.stop('SIGTERM')).toBe(0)
})

/**
 * Expects that `xenkit xenstored` prints one line that says what is wrong, and exits with code 1.
 */
async function expectComplaint(socket: string, says: RegExp): Promise<void> {
  const main = join(import.meta.dirname, '../../src/cli/main.ts')
  const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
    execFile(
      process.execPath,
      ['--import', 'tsx', '--conditions=xenkit-source', main, 'xenstored', '--socket', socket],
      { timeout: 25_000 },
      (error, _, text) => resolve({ code: error?.code, stderr: text }),
    )
  })
  expect(stderr).toMatch(says)
  expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  expect(code).toBe(1)
}
