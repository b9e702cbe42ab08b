/** Images in files: what can't be served says why, what is served is what the file holds. */
import { execFileSync } from 'node:child_process'
import { chmod, mkdtemp, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attachDisk } from '../src/index.ts'
import { ImageError, openFileStore } from '../src/stores/index.ts'
import { rig } from './rig.ts'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xenkit-file-store-'))
})
afterAll(() => rm(directory, { recursive: true }))

let images = 0
async function image(bytes: number): Promise<string> {
  const path = join(directory, `${images++}.img`)
  await writeFile(path, new Uint8Array(bytes))
  return path
}

const openDescriptors = async (): Promise<number> => (await readdir('/proc/self/fd')).length

describe.each([false, true])('an image that can\'t be served, readOnly %s', (readOnly) => {
  const cases: readonly [string, () => Promise<string>, string | undefined, RegExp][] = [
    ['a missing path', async () => join(directory, 'missing.img'), 'ENOENT', /no such file/],
    ['a path through a file', async () => join(await image(512), 'x'), 'ENOTDIR', /ENOTDIR/],
    ['a directory', async () => directory, 'EISDIR', /directory/],
    ['an empty file', () => image(0), undefined, /empty.*truncate -s 1G/],
    ['half a sector', () => image(1000), undefined, /1000 bytes.*truncate -s 1024/],
    ['a character device', async () => '/dev/null', undefined, /neither/],
    [
      'a fifo that nobody writes to',
      async () => {
        const path = join(directory, `${images++}.fifo`)
        execFileSync('mkfifo', [path])
        return path
      },
      undefined,
      /neither/,
    ],
  ]
  test.each(cases)('%s: says so and stays closed', async (_, make, errno, text) => {
    const path = await make()
    const before = await openDescriptors()
    const error: unknown = await openFileStore(path, { readOnly }).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(ImageError)
    expect(error).toMatchObject({ code: 'ERR_XEN_IMAGE', message: expect.stringMatching(text), details: { path } })
    if (errno) expect(error).toMatchObject({ details: { errno } })
    expect(await openDescriptors()).toBe(before)
  })
})

// Root may open everything.
test.skipIf(process.getuid?.() === 0)('a file without permission: says what to do; readable it is served read-only', async () => {
  const path = await image(512)
  await chmod(path, 0o444)
  await expect(openFileStore(path)).rejects.toMatchObject({ details: { errno: 'EACCES' }, message: expect.stringContaining('read-only') })
  await using store = await openFileStore(path, { readOnly: true })
  expect(store.sectors).toBe(1)
})

test('reads, writes and flushes are those of an array', async () => {
  const SECTORS = 256
  const path = await image(SECTORS * 512)
  await using store = await openFileStore(path)
  expect(store.sectors).toBe(SECTORS)
  const model = new Uint8Array(SECTORS * 512)
  /** Lengths of a call's buffers, which needn't be whole sectors each. */
  const lengths = fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, maxLength: 6 })
  const step = fc.record({ kind: fc.constantFrom('read', 'write', 'flush'), sector: fc.nat(SECTORS - 1), lengths, fill: fc.nat(255) })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 10 }), async (steps) => {
      for (const { kind, sector, lengths: wanted, fill } of steps) {
        let room = (SECTORS - sector) * 512
        const buffers = wanted.map((length) => {
          const size = Math.min(length, room)
          room -= size
          return new Uint8Array(size)
        })
        const used = buffers.filter(({ length }) => length > 0)
        const whole = Buffer.concat(used)
        const at = sector * 512
        if (kind === 'flush') {
          await store.flush?.()
        } else if (kind === 'write') {
          for (const [i, buffer] of used.entries()) buffer.fill(fill + i)
          model.set(Buffer.concat(used), at)
          await store.write?.(sector, used)
        } else {
          await store.read(sector, used)
          expect(Buffer.compare(Buffer.concat(used), model.subarray(at, at + whole.length))).toBe(0)
        }
      }
    }),
    { numRuns: 50 },
  )
  expect(Buffer.compare(await readFile(path), model)).toBe(0)
})

test('read-only: there is nothing to write with', async () => {
  await using store = await openFileStore(await image(512), { readOnly: true })
  expect(store.write).toBeUndefined()
  expect(store.flush).toBeUndefined()
})

test('truncated while being served: what is left is read, the rest is an error, the disk lives on', async () => {
  const path = await image(64 * 512)
  await using store = await openFileStore(path)
  await using r = await rig({ store })
  await r.plug()
  await using disk = await attachDisk(r.guest, { vdev: 'xvda' })
  await truncate(path, 20 * 512)
  // It ends within the second buffer, and before the last read.
  await expect(disk.read(16, [new Uint8Array(2048), new Uint8Array(2048)])).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  const { error } = await r.event(({ kind }) => kind === 'store-failed')
  expect(error).toMatchObject({ code: 'ERR_XEN_IMAGE', message: expect.stringContaining('truncated') })
  await expect(disk.read(40, [new Uint8Array(512)])).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  await disk.read(0, [new Uint8Array(20 * 512)])
  await disk.write(63, [new Uint8Array(512).fill(9)])
  expect((await readFile(path)).length).toBe(64 * 512)
})

test('closing waits for what is in flight; later calls reject and touch no other file', async () => {
  // More buffers than one preadv takes (IOV_MAX is 1024): the read goes on after the close is asked for.
  const pieces = 3000
  const path = await image(pieces * 512)
  await writeFile(path, new Uint8Array(pieces * 512).map((_, i) => (i >> 9) & 255))
  const before = await openDescriptors()
  const store = await openFileStore(path)
  const buffers = Array.from({ length: pieces }, () => new Uint8Array(512))
  const order: string[] = []
  const reading = Promise.resolve(store.read(0, buffers)).then(() => order.push('read'))
  await Promise.all([store.close().then(() => order.push('closed')), store.close(), reading])
  expect(order).toEqual(['read', 'closed'])
  expect(buffers.every((buffer, i) => buffer.every((byte) => byte === (i & 255)))).toBe(true)
  await store.close()
  expect(await openDescriptors()).toBe(before)
  // The number that the descriptor had is this file's now.
  await using other = await openFileStore(await image(512))
  for (const late of [store.read(0, [new Uint8Array(512)]), store.write?.(0, [new Uint8Array(512).fill(7)]), store.flush?.()]) {
    await expect(late).rejects.toMatchObject({ code: 'ERR_XEN_IMAGE', message: expect.stringContaining('closed') })
  }
  expect((await readFile(other.path)).every((byte) => byte === 0)).toBe(true)
})
