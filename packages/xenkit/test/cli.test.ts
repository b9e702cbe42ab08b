/** The command as its user meets it: what it prints, and how it ends, when something is wrong. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const main = join(import.meta.dirname, '../src/cli/main.ts')
const example = join(import.meta.dirname, '../../../examples/file-disk.ts')
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

const xenkit = (...args: string[]): Promise<Outcome> =>
  new Promise((resolve) => {
    execFile(process.execPath, ['--import', 'tsx', '--conditions=xenkit-source', main, ...args], { timeout: 25_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr })
    })
  })

/** One line that says what is wrong, and exit code 1. */
function expectComplaint({ code, stderr }: Outcome, says: RegExp): void {
  expect(stderr).toMatch(says)
  expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  expect(code).toBe(1)
}

/** The program's complaint, then that of `xenkit sim` about the program; none of the guest, whose disk is untouched. */
function expectFirstComplaint({ code, stderr }: Outcome, says: RegExp): void {
  const [first, second, ...more] = stderr.trimEnd().split('\n')
  expect(first).toMatch(says)
  expect(second).toMatch(/ended with code 1 before the guest was done/)
  expect(more).toEqual([])
  expect(code).toBe(1)
}

describe('an image that can\'t be served', () => {
  test('a wrong path', async () => expectComplaint(await xenkit('disk', 'serve', join(folder, 'nowhere.img')), /nowhere\.img" can't be opened: there is no such file/))
  test('a directory', async () => expectComplaint(await xenkit('disk', 'serve', folder), /it is a directory/))
  test('a size that is no multiple of 512', async () => {
    const odd = join(folder, 'odd.img')
    writeFileSync(odd, 'x'.repeat(1000))
    expectComplaint(await xenkit('disk', 'serve', odd), /1000 bytes long, not a multiple of 512: pad it with truncate -s 1024/)
  })
  test('an empty file', async () => {
    const empty = join(folder, 'empty.img')
    writeFileSync(empty, '')
    expectComplaint(await xenkit('disk', 'attach', '1', 'xvda', empty), /is empty/)
  })
})

describe('without Xen', () => {
  test('disk serve says what is missing, and that sim exists', async () => expectComplaint(await xenkit('disk', 'serve', image), /xenkit sim/))
  test('doctor says so and fails', async () => {
    const { code, stdout } = await xenkit('doctor')
    expect(stdout).toMatch(/\/dev\/xen\/gntdev/)
    expect(code).toBe(1)
  })
})

test('the example in the READMEs is that of examples/', () => {
  const source = readFileSync(example, 'utf8').replace(/^(\/\/.*\n)+/, '').trim()
  for (const readme of ['../../../README.md', '../README.md']) {
    expect(readFileSync(join(import.meta.dirname, readme), 'utf8')).toContain(source)
  }
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

  test('an image may be absent for a CD-ROM drive alone', async () => expectComplaint(await xenkit('disk', 'attach', '1', 'xvda'), /name an image/))
})

test('a demo without writes verifies what was read', async () => {
  const { code, stdout } = await xenkit('demo', '--writes', '0', image)
  expect(stdout).toMatch(/, 0 writes \(0 MiB\)/)
  expect(code).toBe(0)
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

  test('disk attach to a domain that doesn\'t exist', async () => {
    expectFirstComplaint(await xenkit('sim', main, 'disk', 'attach', '77', 'xvdb', image), /domain 77 doesn't exist: see "xl list"/)
  })

  test('disk attach of a vdev that is in use', async () => {
    expectFirstComplaint(await xenkit('sim', main, 'disk', 'attach', '1', 'xvda', image), /51712 of domain 1 is in use/)
  })

  test('writes nothing unless told to', async () => {
    const before = readFileSync(image)
    const { code, stdout } = await xenkit('sim', example, image)
    expect(stdout).toMatch(/nothing was written/)
    expect(code).toBe(0)
    expect(readFileSync(image).equals(before)).toBe(true)
  })

  test('a store that throws: its own words, then the guest\'s, a line each', async () => {
    const { code, stderr } = await xenkit('sim', join(import.meta.dirname, 'programs/throwing-store.ts'))
    expect(stderr.split('\n')).toEqual([
      'xvda of domain 1: the store failed a request: the disk is on fire',
      expect.stringMatching(/^xenkit: the simulated guest failed: disk "xvda" answered -1 to a read/),
      '',
    ])
    expect(code).toBe(1)
  })

  test('a program whose image doesn\'t exist is one line', async () => expectComplaint(await xenkit('sim', example, join(folder, 'nowhere.img')), /file-disk\.ts" failed: ENOENT/))

  test('what is behind -- is the program\'s', async () => {
    const program = join(folder, 'arguments.mjs')
    writeFileSync(program, 'console.log(process.argv.slice(2).join(" ")); process.exit(1)')
    expect((await xenkit('sim', program, '-a', '--b', '--', '--writes', '3', '--')).stdout).toBe('-a --b --writes 3 --\n')
  })

  test.each([
    ['an image of less than a sector', 300, /"store\.sectors" expected whole sectors of 512 bytes, got 0\.58/],
    ['an image that ends within a sector', 1000, /"store\.sectors" expected whole sectors of 512 bytes, got 1\.95.*: pad the image/],
    ['an empty image', 0, /"store\.sectors" expected an integer 1\.\./],
  ])('the example of the README says what is wrong with %s', async (_, bytes, says) => {
    const odd = join(folder, `${bytes}.img`)
    writeFileSync(odd, Buffer.alloc(bytes))
    const { code, stderr } = await xenkit('sim', example, odd)
    expect(stderr).toMatch(says)
    expect(code).toBe(1)
  })

  test('a program that serves nothing is told so', async () => {
    const idle = join(folder, 'idle.mjs')
    writeFileSync(idle, 'setInterval(() => {}, 1000)')
    expectComplaint(await xenkit('sim', idle), /has not served xvda of domain 1 within 10 s: does it call serveVbd/)
  })

  test('a directory', async () => expectComplaint(await xenkit('sim', folder), /is no file/))

  test('a program that doesn\'t exist', async () => expectComplaint(await xenkit('sim', join(folder, 'none.ts')), /none\.ts" doesn't exist/))
})
