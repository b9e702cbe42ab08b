/** Locks between this process and others that use an image: QEMU's tools, or a second store. */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import {
  type FileHandle,
  constants,
  mkdtemp,
  open,
  readdir,
  readlink,
  rm,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { NbdProcess, whyNoNbdTools } from '../../stores/test/nbd/support/nbd-tools.ts'
import { type FileStore, openFileStore, openMemoryStore } from '../src/index.ts'

const reason = whyNoNbdTools()
if (reason) console.warn(`not run: ${reason}`)

let folder: string
let images = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xenkit-locks-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function makeImage(): Promise<string> {
  const path = join(folder, `${images++}.img`)
  await writeFile(path, new Uint8Array(1 << 20))
  return path
}

/** Number of descriptors that this process has open on a file. */
async function descriptorsOf(path: string): Promise<number> {
  const folder = '/proc/self/fd'
  const links = await Promise.all(
    (await readdir(folder)).map((fd) => readlink(join(folder, fd)).catch(() => '')),
  )
  return links.filter((link) => link === path).length
}

/**
 * Expects that opening the image fails with an error of one line, and leaves no descriptor open.
 */
async function expectRefused(
  path: string,
  text: RegExp,
  o: Parameters<typeof openFileStore>[1] = {},
): Promise<string> {
  const before = await descriptorsOf(path)
  const error: unknown = await openFileStore(path, o).then(
    (store) => store.close(),
    (why: unknown) => why,
  )
  expect(error).toMatchObject({
    code: 'ERR_XEN_IMAGE',
    message: expect.stringMatching(text),
    details: { path, errno: 'EBUSY' },
  })
  expect(await descriptorsOf(path)).toBe(before)
  const { message } = error as Error
  expect(message).toContain(`"${path}"`)
  expect(message).not.toContain('\n')
  return message
}

describe.skipIf(reason)('QEMU', () => {
  const serve = (path: string, ...args: string[]): Promise<NbdProcess> => {
    const socket = `${path}.sock`
    return NbdProcess.start(
      ['qemu-nbd', '--persistent', '--format', 'raw', '--socket', socket, ...args, path],
      { path: socket },
    )
  }
  const write = (path: string): Promise<unknown> =>
    promisify(execFile)('qemu-io', ['-f', 'raw', '-c', 'write 0 512', path])
  const resize = (path: string): Promise<unknown> =>
    promisify(execFile)('qemu-img', ['resize', '-f', 'raw', path, '2M'])
  const read = (path: string): Promise<unknown> =>
    promisify(execFile)('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', path, path])

  test('an image that qemu-nbd writes is refused, and the error names the process', async () => {
    const path = await makeImage()
    await using server = await serve(path)
    for (const readOnly of [false, true]) {
      const message = await expectRefused(
        path,
        /in use by qemu-nbd \(process \d+\), which writes to it: .*without "locking"/,
        { readOnly },
      )
      const [, pid] = /process (\d+)/.exec(message) ?? []
      expect(readFileSync(`/proc/${pid}/comm`, 'utf8')).toBe('qemu-nbd\n')
    }
    await expect(openMemoryStore(path)).rejects.toThrow(/qemu-nbd/)
    await server.kill()
    await using store = await openFileStore(path)
    expect(store.sectors).toBe(2048)
  })

  test('an image that qemu-nbd reads can only be opened read-only', async () => {
    const path = await makeImage()
    await using _server = await serve(path, '--read-only')
    await expectRefused(
      path,
      /in use by qemu-nbd \(process \d+\), which lets nobody else resize it: /,
    )
    await using store = await openFileStore(path, { readOnly: true })
    expect(store.sectors).toBe(2048)
  })

  test('QEMU refuses an image that a store may write', async () => {
    const path = await makeImage()
    const store = await openFileStore(path)
    for (const use of [
      () => write(path),
      () => resize(path),
      () => serve(path),
      () => serve(path, '--read-only'),
    ]) {
      await expect(use()).rejects.toThrow(/Failed to get .*lock/)
    }
    await store.close()
    await write(path)
    await using _server = await serve(path)
  })

  test('QEMU can only read an image that a store reads', async () => {
    const path = await makeImage()
    await using _store = await openFileStore(path, { readOnly: true })
    await read(path)
    await using _server = await serve(path, '--read-only')
    for (const use of [() => write(path), () => resize(path)]) {
      await expect(use()).rejects.toThrow(/Failed to get "write" lock/)
    }
  })

  test('without locks both open it', async () => {
    const path = await makeImage()
    await using _server = await serve(path)
    await using store = await openFileStore(path, { locking: false })
    await using reader = await openFileStore(path, { locking: false, readOnly: true })
    expect([store.sectors, reader.sectors]).toEqual([2048, 2048])
    await write(path)
  })
})

describe('two stores of one process', () => {
  test.each([
    ['reading', 'reading', undefined],
    ['reading', 'writing', /in use by this process, which lets nobody else write to it/],
    ['writing', 'reading', /in use by this process, which writes to it/],
    [
      'writing',
      'writing',
      /in use by this process, which (writes to it|lets nobody else write to it)/,
    ],
  ])('one %s, another %s', async (first, second, refusal) => {
    const path = await makeImage()
    const options = (access: string) => ({ readOnly: access === 'reading' })
    const store = await openFileStore(path, options(first))
    if (refusal) await expectRefused(path, refusal, options(second))
    else await (await openFileStore(path, options(second))).close()
    await store.close()
    await using again = await openFileStore(path, options(second))
    expect(again.sectors).toBe(2048)
  })

  test('a shared store keeps the lock until the last share ends', async () => {
    const path = await makeImage()
    const store = await openFileStore(path)
    const shared = store.share?.()
    const closed = store.close()
    await expectRefused(path, /in use by this process/)
    shared?.[Symbol.dispose]()
    await closed
    await using _again = await openFileStore(path)
  })
})

/**
 * Attaches a loop device, and returns its path. Undefined without root, the driver or a free
 * device, as in a container.
 */
function attachLoop(path: string): string | undefined {
  if (process.getuid?.() !== 0 || !existsSync('/dev/loop-control')) return undefined
  try {
    return execFileSync('losetup', ['--find', '--show', path], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return undefined
  }
}

test('a mounted block device can only be opened read-only; a writing store opens one exclusively', async ({
  skip,
}) => {
  const device = attachLoop(await makeImage())
  if (device === undefined) return skip('no loop device can be had here')
  const alone = (): Promise<FileHandle> => open(device, constants.O_RDWR | constants.O_EXCL)
  let store: FileStore | undefined
  try {
    {
      // Opens the device exclusively, as the kernel does for a mounted file system or a volume.
      await using _holder = await alone()
      await expectRefused(device, /has it to itself/)
      await using reader = await openFileStore(device, { readOnly: true })
      await using forced = await openFileStore(device, { locking: false })
      expect([reader.sectors, forced.sectors]).toEqual([2048, 2048])
    }
    store = await openFileStore(device)
    await expect(alone()).rejects.toMatchObject({ code: 'EBUSY' })
    await expectRefused(device, /in use by this process/, { readOnly: true })
  } finally {
    await store?.close()
    execFileSync('losetup', ['--detach', device])
  }
})
