/** The `xenkit` command as its user sees it: output and exit code when something is wrong. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const main = join(import.meta.dirname, '../../src/cli/main.ts')
const example = join(import.meta.dirname, '../../../../examples/file-disk.ts')
let folder: string
let image: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-cli-'))
  image = join(folder, 'disk.img')
  writeFileSync(image, Buffer.alloc(256 * 1024, 'xenkit'))
})
afterAll(() => rmSync(folder, { recursive: true }))

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const node = ['--import', 'tsx', '--conditions=xenkit-source']

const run = (program: string, args: readonly string[]): Promise<Outcome> =>
  new Promise((resolve) => {
    const child = execFile(program, args, { timeout: 25_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
      resolve({ code, stdout, stderr })
    })
    child.stdin?.end()
  })

const xenkit = (...args: string[]): Promise<Outcome> =>
  run(process.execPath, [...node, main, ...args])

/** Returns a command line that runs the `xenkit` command in a shell. */
const command = (...args: string[]): string => [process.execPath, ...node, main, ...args].join(' ')

/** Returns the bytes that a terminal of this width receives from a command line. */
async function terminal(columns: number, line: string): Promise<string> {
  // With these variables, which CI services set, Node would choose colours by them, not by the
  // terminal.
  const clean = ['-u', 'NO_COLOR', '-u', 'FORCE_COLOR', '-u', 'CI', 'TERM=xterm']
  const shell = ['script', '-qec', `stty cols ${columns}; ${line}`, '/dev/null']
  return (await run('env', [...clean, ...shell])).stdout
}

/** Expects one line on stderr that says what is wrong, and exit code 1. */
function expectComplaint({ code, stderr }: Outcome, says: RegExp): void {
  expect(stderr).toMatch(says)
  expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  expect(code).toBe(1)
}

/**
 * Expects two errors: the program's, then `xenkit sim`'s about the program. The guest must report
 * none, because its disk is untouched.
 */
function expectFirstComplaint({ code, stderr }: Outcome, says: RegExp): void {
  const [first, second, ...more] = stderr.trimEnd().split('\n')
  expect(first).toMatch(says)
  expect(second).toMatch(/ended with code 1 before the guest was done/)
  expect(more).toEqual([])
  expect(code).toBe(1)
}

describe("an image that can't be served", () => {
  test('a wrong path', async () =>
    expectComplaint(
      await xenkit('disk', 'serve', join(folder, 'nowhere.img')),
      /nowhere\.img" can't be opened: there is no such file/,
    ))
  test('a directory', async () =>
    expectComplaint(await xenkit('disk', 'serve', folder), /it is a directory/))
  test("a size that isn't a multiple of 512", async () => {
    const odd = join(folder, 'odd.img')
    writeFileSync(odd, 'x'.repeat(1000))
    expectComplaint(
      await xenkit('disk', 'serve', odd),
      /1000 bytes long, not a multiple of 512: pad it with truncate -s 1024/,
    )
  })
  test('an empty file', async () => {
    const empty = join(folder, 'empty.img')
    writeFileSync(empty, '')
    expectComplaint(await xenkit('disk', 'attach', '1', 'xvda', empty), /is empty/)
  })
})

describe('without Xen', () => {
  test('disk serve says what is missing, and recommends sim', async () =>
    expectComplaint(await xenkit('disk', 'serve', image), /xenkit sim/))
  test('doctor says so and fails', async () => {
    const { code, stdout } = await xenkit('doctor')
    expect(stdout).toMatch(/\/dev\/xen\/gntdev/)
    expect(code).toBe(1)
  })
})

describe('arguments', () => {
  test.each([
    [['disk', 'attach', 'dom3', 'xvda', 'x'], /domain id/],
    [['disk', 'attach', '99999', 'xvda', 'x'], /domain id/],
    [['disk', 'attach', '1', 'nvme0', 'x'], /"vdev" expected a name like xvda/],
    [['disk', 'attach', '1'], /missing required argument/],
    [['disk', 'resize', '1', 'xvda', '7'], /multiple of 512/],
    [['disk', 'serve', '--backend-types', 'vbd,loop', 'x'], /expected some of vbd,vbd3,qdisk/],
    [['sim', example, 'x', '--writes', '3'], /Options of sim go before the program/],
    [['sim', example, '--seed=3'], /Options of sim go before the program/],
    [['dsik'], /unknown command/],
  ])('%j', async (args, says) => {
    const { code, stderr } = await xenkit(...args)
    expect(stderr).toMatch(says)
    expect(code).toBe(2)
  })

  test('an image may be absent for a CD-ROM drive alone', async () =>
    expectComplaint(await xenkit('disk', 'attach', '1', 'xvda'), /name an image/))
})

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

describe('demo', () => {
  test('without writes verifies what was read', async () => {
    const { code, stdout } = await xenkit('demo', '--writes', '0', image)
    expect(stdout).toMatch(/, 0 writes \(0 KiB\)/)
    expect(code).toBe(0)
  })

  test('leaves the image as it is', async () => {
    const before = readFileSync(image)
    const { code, stdout, stderr } = await xenkit('demo', '--writes', '9', image)
    expect(stderr).toMatch(/the guest wrote to 9 random places, read each back, and agrees/)
    expect(stdout).toMatch(/, 9 writes /)
    expect(code).toBe(0)
    expect(readFileSync(image).equals(before)).toBe(true)
  })

  test('treats an empty name as a wrong path', async () => {
    expectComplaint(await xenkit('demo', ''), /image "" can't be opened: there is no such file/)
  })

  test('does not take more memory than there is', async () => {
    const large = join(folder, 'large.img')
    closeSync(openSync(large, 'wx'))
    truncateSync(large, 2 ** 43)
    expectComplaint(await xenkit('demo', '--writes', '999999999', large), /--writes/)
  })

  test("run by npm in a subfolder, resolves the image's path from there", async () => {
    const docs = join(import.meta.dirname, '../../../../docs')
    const name = relative(docs, image)
    const args = ['run', 'demo', '--', name, '--writes', '0']
    const { stdout } = await promisify(execFile)('npm', args, { cwd: docs })
    expect(stdout).toMatch(/nothing leaked/)
  })

  // Copying the image would take minutes, even though it is all holes.
  test.each(signals)('of a sparse TiB copies nothing; %s ends it', async (signal) => {
    const sparse = join(folder, `${signal}.img`)
    closeSync(openSync(sparse, 'wx'))
    truncateSync(sparse, 2 ** 40)
    const temporary = mkdtempSync(join(folder, 'tmp-'))
    const env = { ...process.env, TMPDIR: temporary }
    const demo = spawn(process.execPath, [...node, main, 'demo', sparse], { env })
    const [first] = await once(demo.stderr, 'data')
    expect(String(first)).toContain(`reading ${sparse}`)
    // tsx keeps its cache in the temporary folder; nothing else may be there.
    expect(readdirSync(temporary).filter((name) => !name.startsWith('tsx-'))).toEqual([])
    demo.kill(signal)
    expect(await once(demo, 'exit')).toEqual([null, signal])
    expect(readdirSync(temporary).filter((name) => !name.startsWith('tsx-'))).toEqual([])
  })

  test('works on a terminal with no columns', async () => {
    const shown = await terminal(0, command('demo', '--writes', '0', image))
    expect(shown).toContain('\x1b[32m✔\x1b[39m the guest read all 256 KiB')
    expect(shown).toContain('nothing leaked')
  })

  test('no line is wider than the terminal', async () => {
    const shown = await terminal(20, command('demo', '--writes', '0', image))
    const drawn = shown.split('\r').filter((text) => text.startsWith('- '))
    expect(drawn.length).toBeGreaterThan(0)
    for (const text of drawn) expect(text.replace('\x1b[K', '').length).toBeLessThan(20)
  })
})

test('uses colours on terminals only, unless forced', async () => {
  expect((await xenkit('doctor')).stdout).not.toContain('\x1b')
  expect(await terminal(80, command('doctor'))).toContain('\x1b[31mno\x1b[39m')
  expect(await terminal(80, `NO_COLOR=1 ${command('doctor')}`)).not.toContain('\x1b')
})

describe('xenkit sim', () => {
  test('runs the example of the README, unchanged', async () => {
    const { code, stdout, stderr } = await xenkit('sim', '--writes', '50', example, image)
    expect(stderr).toBe('')
    expect(stdout).toMatch(/guest: read 512 sectors of xvda, sha256 [0-9a-f]{64}/)
    expect(stdout).toMatch(/guest: 50 random writes read back as written/)
    expect(code).toBe(0)
  })

  test('runs the command itself: disk serve', async () => {
    const { code, stdout } = await xenkit('sim', '--writes', '5', main, 'disk', 'serve', image)
    expect(stdout).toMatch(/xvda of domain 1: connected/)
    expect(stdout).toMatch(/5 random writes/)
    expect(code).toBe(0)
  })

  test("disk attach to a domain that doesn't exist", async () => {
    expectFirstComplaint(
      await xenkit('sim', main, 'disk', 'attach', '77', 'xvdb', image),
      /domain 77 doesn't exist: see "xl list"/,
    )
  })

  test('disk attach of a vdev that is in use', async () => {
    expectFirstComplaint(
      await xenkit('sim', main, 'disk', 'attach', '1', 'xvda', image),
      /51712 of domain 1 is in use/,
    )
  })

  test('writes nothing without --writes', async () => {
    const before = readFileSync(image)
    const { code, stdout } = await xenkit('sim', example, image)
    expect(stdout).toMatch(/nothing was written/)
    expect(code).toBe(0)
    expect(readFileSync(image).equals(before)).toBe(true)
  })

  test("a store that throws: its error, then the guest's, a line each", async () => {
    const program = join(import.meta.dirname, '../support/programs/throwing-store.ts')
    const { code, stderr } = await xenkit('sim', program)
    expect(stderr.split('\n')).toEqual([
      'xvda of domain 1: the store failed a request: the disk is on fire',
      expect.stringMatching(/^xenkit: the simulated guest failed: disk "xvda" answered -1 to/),
      '',
    ])
    expect(code).toBe(1)
  })

  test("a program whose image doesn't exist is one line", async () =>
    expectComplaint(
      await xenkit('sim', example, join(folder, 'nowhere.img')),
      /file-disk\.ts" failed: ENOENT/,
    ))

  test('arguments after -- belong to the program', async () => {
    const program = join(folder, 'arguments.mjs')
    writeFileSync(program, 'console.log(process.argv.slice(2).join(" ")); process.exit(1)')
    const { stdout } = await xenkit('sim', program, '-a', '--b', '--', '--writes', '3', '--')
    expect(stdout).toBe('-a --b --writes 3 --\n')
  })

  test.each([
    ['an image of less than a sector', 300, /expected whole sectors of 512 bytes, got 0\.58/],
    ['an image that ends within a sector', 1000, /expected whole sectors .* got 1\.95.*: pad the/],
    ['an empty image', 0, /"store\.sectors" expected an integer 1\.\./],
  ])('the example of the README says what is wrong with %s', async (_, bytes, says) => {
    const odd = join(folder, `${bytes}.img`)
    writeFileSync(odd, Buffer.alloc(bytes))
    const { code, stderr } = await xenkit('sim', example, odd)
    expect(stderr).toMatch(says)
    expect(code).toBe(1)
  })

  test('a program that serves nothing is an error', async () => {
    const idle = join(folder, 'idle.mjs')
    writeFileSync(idle, 'setInterval(() => {}, 1000)')
    expectComplaint(
      await xenkit('sim', idle),
      /has not served xvda of domain 1 within 10 s: check that it calls serveVbd/,
    )
  })

  test('a directory', async () => expectComplaint(await xenkit('sim', folder), /is not a file/))

  test("a program that doesn't exist", async () =>
    expectComplaint(await xenkit('sim', join(folder, 'none.ts')), /none\.ts" doesn't exist/))
})
