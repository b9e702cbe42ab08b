/**
 * Third-party clients of `xenkit xenstored`: Xen's own tools (Debian: xenstore-utils) and pyxs
 * (Debian: python3-pyxs).
 */
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Daemon, missing, startDaemon } from '../support/xenstored-daemon.ts'

let folder: string
let daemon: Daemon
let env: NodeJS.ProcessEnv

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-xenstored-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function daemonOf(name: string): void {
  beforeAll(async () => {
    const path = join(folder, name)
    daemon = await startDaemon(path)
    env = { ...process.env, XENSTORED_PATH: path }
  })
  afterAll(async () => {
    expect(await daemon.stop('SIGTERM')).toBe(0)
    expect(daemon.output.stderr).toBe('')
  })
}

interface Outcome {
  readonly output: string
  readonly code: number
}

const shell = (command: string): Promise<Outcome> =>
  new Promise((resolve) => {
    execFile('sh', ['-c', command], { env, timeout: 20_000 }, (error, stdout, stderr) => {
      resolve({
        output: stderr + stdout,
        code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1,
      })
    })
  })

/**
 * Output of the tools with C xenstored 4.17, recorded in a file. Each entry has a command after
 * `$`, its stderr and stdout (`%` where the last line has no newline), and its exit code.
 */
const session = readFileSync(join(import.meta.dirname, '../support/xenstore-tools.session'), 'utf8')
  .split(/^\$ /m)
  .slice(1)
  .map((entry): [string, Outcome] => {
    const [, command = '', output = '', code] = /^(.*)\n([^]*)\[(\d+)\]\n$/.exec(entry) ?? []
    return [command, { output: output.replace(/%\n$/, ''), code: Number(code) }]
  })

const noTools = missing('xenstore-utils', 'sh', '-c', 'command -v xenstore-read')

describe.skipIf(noTools)(`Xen's tools${noTools ?? ''}`, () => {
  daemonOf('tools')

  test.each(session)('%s', async (command, expected) => {
    expect(await shell(command)).toEqual(expected)
  })

  test('xenstore-watch prints changes as they are made', async () => {
    const watching = spawn('xenstore-watch', ['-n', '4', '/watched'], {
      env,
      timeout: 20_000,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const changes = [
      'xenstore-write /watched/a 1',
      'xenstore-chmod /watched/a r5',
      'xenstore-rm /watched',
    ]
    const seen: string[] = []
    for await (const line of createInterface(watching.stdout)) {
      seen.push(line)
      const change = changes[seen.length - 1]
      if (change !== undefined) expect(await shell(change)).toEqual({ output: '', code: 0 })
    }
    expect(seen).toEqual(['/watched', '/watched/a', '/watched/a', '/watched'])
  })

  test('conflicting transactions are retried until all have committed', async () => {
    const pairs = Array.from({ length: 20 }, (_, i) => i)
    expect(
      await Promise.all(
        pairs.map((i) => shell(`xenstore-write /meet/${i}/a ${i} /meet/${i}/b ${i}`)),
      ),
    ).toEqual(pairs.map(() => ({ output: '', code: 0 })))
    const { output } = await shell('xenstore-list /meet')
    expect(
      output
        .trim()
        .split('\n')
        .map(Number)
        .toSorted((a, b) => a - b),
    ).toEqual(pairs)
  })
})

const PYTHON = '/usr/bin/python3' // Debian's python, which has Debian's pyxs
const noPyxs = missing('python3-pyxs', PYTHON, '-c', 'import pyxs')

describe.skipIf(noPyxs)(`pyxs${noPyxs ?? ''}`, () => {
  daemonOf('pyxs')

  test('each statement of pyxs.doctest returns the result that it shows', async () => {
    const { stdout } = await promisify(execFile)(
      PYTHON,
      ['-m', 'doctest', '-v', join(import.meta.dirname, '../support/pyxs.doctest')],
      { env, timeout: 25_000 },
    ).catch((error: { stdout?: string }) => ({ stdout: error.stdout ?? String(error) }))
    expect(stdout).toMatch(/\n\d{2} passed and 0 failed\.\nTest passed\.\n$/)
  })
})
