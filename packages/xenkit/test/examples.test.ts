/** Runs every example as a reader would, on a simulated machine. */
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'

const main = join(import.meta.dirname, '../src/cli/main.ts')
const examples = join(import.meta.dirname, '../../../examples')
const folder = mkdtempSync(join(tmpdir(), 'xenkit-examples-'))
const image = join(folder, 'disk.img')
const key = join(folder, 'disk.key')
const content = Buffer.alloc(256 * 1024, 'xenkit')

beforeEach(() => writeFileSync(image, content))
afterAll(() => rmSync(folder, { recursive: true }))

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const run = (...args: string[]): Promise<Outcome> =>
  new Promise((resolve) => {
    execFile(
      process.execPath,
      ['--import', 'tsx', '--conditions=xenkit-source', ...args],
      { timeout: 60_000 },
      (error, stdout, stderr) => {
        resolve({
          code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1,
          stdout,
          stderr,
        })
      },
    )
  })

const sim = (
  o: { readonly writes: number },
  example: string,
  ...args: string[]
): Promise<Outcome> =>
  run(main, 'sim', '--writes', String(o.writes), join(examples, example), ...args)

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

function expectWritten(
  { code, stdout, stderr }: Outcome,
  o: { readonly sha256Before: string },
): void {
  expect(stderr).toBe('')
  expect(stdout).toContain(`guest: read 512 sectors of xvda, sha256 ${o.sha256Before}`)
  expect(stdout).toMatch(/guest: 30 random writes read back as written/)
  expect(code).toBe(0)
}

test("file-disk: the image holds the guest's writes", async () => {
  expectWritten(await sim({ writes: 30 }, 'file-disk.ts', image), { sha256Before: sha256(content) })
  expect(readFileSync(image).equals(content)).toBe(false)
})

test("workers-disk: the image holds the guest's writes", async () => {
  expectWritten(await sim({ writes: 30 }, 'workers-disk.ts', image), {
    sha256Before: sha256(content),
  })
  expect(readFileSync(image).equals(content)).toBe(false)
})

test('overlay-disk: the guest writes, the image is unchanged', async () => {
  expectWritten(await sim({ writes: 30 }, 'overlay-disk.ts', image), {
    sha256Before: sha256(content),
  })
  expect(readFileSync(image).equals(content)).toBe(true)
})

test(
  "encrypted-disk: the next guest reads the last one's data with the same key only",
  { timeout: 120_000 },
  async () => {
    writeFileSync(key, randomBytes(64))
    const written = await sim({ writes: 30 }, 'encrypted-disk.ts', image, key)
    expect(written.stdout).toMatch(/30 random writes read back/)
    const after = /sha256 now ([0-9a-f]{64})/.exec(written.stdout)?.[1] ?? 'none'
    expect(sha256(readFileSync(image))).not.toBe(after)
    expect((await sim({ writes: 0 }, 'encrypted-disk.ts', image, key)).stdout).toContain(after)
    writeFileSync(key, randomBytes(64))
    expect((await sim({ writes: 0 }, 'encrypted-disk.ts', image, key)).stdout).not.toContain(after)
  },
)

test("http-disk: the server's data, overlaid with the guest's writes", async () => {
  const server = createServer(({ method, headers: { range } }, answer) => {
    const [from, to] =
      /^bytes=(\d+)-(\d+)$/
        .exec(range ?? '')
        ?.slice(1)
        .map(Number) ?? []
    if (method === 'HEAD') answer.setHeader('content-length', content.length).end()
    else if (from !== undefined && to !== undefined) {
      answer.writeHead(206).end(content.subarray(from, to + 1))
    } else answer.writeHead(400).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const address = server.address()
  try {
    expectWritten(
      await sim(
        { writes: 30 },
        'http-disk.ts',
        `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}/disk.img`,
      ),
      { sha256Before: sha256(content) },
    )
  } finally {
    server.close()
  }
})

describe('fault-disk', () => {
  test('without errors the guest is served with a delay', async () => {
    expectWritten(await sim({ writes: 30 }, 'fault-disk.ts', image, '0'), {
      sha256Before: sha256(content),
    })
    expect(readFileSync(image).equals(content)).toBe(true)
  })

  test('injected errors reach the guest', async () => {
    const { code, stdout, stderr } = await sim({ writes: 30 }, 'fault-disk.ts', image, '1')
    expect(stdout).toMatch(/read of \d+ bytes at sector 0 fails by chance, seed 1/)
    expect(stdout).toMatch(/xvda: store-failed/)
    expect(stderr).toMatch(/^xenkit: the simulated guest failed: disk "xvda" answered -1 to .*\n$/)
    expect(code).toBe(1)
  })
})

test('calculator-device: the guest has its results, and the machine is quiescent', async () => {
  const { code, stdout, stderr } = await run(join(examples, 'calculator-device.ts'))
  expect(stderr).toBe('')
  expect(stdout.split('\n').filter((line) => !line.startsWith('backend:'))).toEqual([
    'guest: the backend divides',
    'guest: 2 + 40 = 42',
    'guest: 84 / 2 = 42',
    'guest: 1 / 0 = status -1',
    'nothing is left open',
    '',
  ])
  expect(
    [...stdout.matchAll(/^backend: calculator 0 of domain 1 (.*)$/gm)].map(([, e]) => e),
  ).toEqual(['offered', 'connected', 'closed', 'removed'])
  expect(code).toBe(0)
})

test.each(readdirSync(examples).filter((name) => name.endsWith('-disk.ts')))(
  '%s: prints its usage without arguments',
  async (name) => {
    const { code, stderr } = await run(join(examples, name))
    expect(stderr).toContain(`usage: ${name.replace('.ts', '')} `)
    expect(code).toBe(1)
  },
)
