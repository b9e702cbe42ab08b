/** Images in files: which ones are refused and why, and that the others serve the file's bytes. */
import { execFileSync } from 'node:child_process'
import { fstatSync, writeSync } from 'node:fs'
import { chmod, mkdtemp, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openVbd } from '@xenkit/vbd'
import { type DiscardRange, ImageError, openFileStoreWith } from '../src/index.ts'
import { rig } from '../../vbd/test/support/rig.ts'
import { expectModelled, zeroed } from './support/model.ts'

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

describe.each([false, true])("an image that can't be served, readOnly %s", (readOnly) => {
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
    const error: unknown = await openFileStoreWith({}, path, { readOnly }).catch(
      (reason: unknown) => reason,
    )
    expect(error).toBeInstanceOf(ImageError)
    expect(error).toMatchObject({
      code: 'ERR_XEN_IMAGE',
      message: expect.stringMatching(text),
      details: { path },
    })
    if (errno) expect(error).toMatchObject({ details: { errno } })
    expect(await openDescriptors()).toBe(before)
  })
})

test('a file without permission: the error says what to do, and suggests read-only if that helps', async () => {
  const [readable, secret] = [await image(512), await image(512)]
  await Promise.all([chmod(directory, 0o755), chmod(readable, 0o444), chmod(secret, 0o000)])
  const refused = (text: RegExp) => ({
    details: { errno: 'EACCES' },
    message: expect.stringMatching(text),
  })
  // Root may open every file, so the tests of permissions run as another user.
  const isRoot = process.geteuid?.() === 0
  if (isRoot) process.seteuid?.(65_534)
  try {
    await expect(openFileStoreWith({}, readable)).rejects.toMatchObject(
      refused(/serve it read-only$/),
    )
    await using store = await openFileStoreWith({}, readable, { readOnly: true })
    expect(store.sectors).toBe(1)
    const reading = openFileStoreWith({}, secret, { readOnly: true })
    await expect(reading).rejects.toMatchObject(refused(/its mode or run as another user$/))
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
})

test.each([false, true])('reads and writes are those of an array, direct %s', async (direct) => {
  const path = await image(256 * 512)
  await using store = await openFileStoreWith({}, path, { direct })
  expect(store.sectors).toBe(256)
  expect(store.discard).toBeUndefined()
  const model = await expectModelled({ store, numRuns: 30 })
  expect(Buffer.compare(await readFile(path), model)).toBe(0)
})

test('direct: calls larger than the aligned memory, and more of them than it has pieces', async () => {
  const BYTES = 5 * 1024 * 1024
  const path = await image(BYTES)
  await using store = await openFileStoreWith({}, path, { direct: true })
  const bytes = new Uint8Array(BYTES).map((_, i) => (i >> 12) + i)
  await store.write?.(0, [bytes.subarray(0, 777), bytes.subarray(777)])
  const got = Array.from({ length: 12 }, () => new Uint8Array(BYTES))
  await Promise.all(got.map((buffer) => store.read(0, [buffer])))
  expect(got.every((buffer) => Buffer.compare(buffer, bytes) === 0)).toBe(true)
  expect(Buffer.compare(await readFile(path), bytes)).toBe(0)
})

test('direct reads of a file that has none are refused', async () => {
  // procfs refuses O_DIRECT at open.
  await expect(
    openFileStoreWith({}, '/proc/self/maps', { readOnly: true, direct: true }),
  ).rejects.toMatchObject({
    code: 'ERR_XEN_IMAGE',
    details: { errno: 'EINVAL' },
    message: expect.stringContaining('without "direct"'),
  })
})

test('a file system without locks: says so, and is served without', async () => {
  const path = await image(512)
  const lockBytes = () => Promise.reject(Object.assign(new Error('no locks'), { code: 'ENOLCK' }))
  await expect(openFileStoreWith({ lockBytes }, path)).rejects.toMatchObject({
    message: expect.stringMatching(/can't be locked \(ENOLCK\): serve it without "locking"/),
    details: { path, errno: 'ENOLCK' },
  })
  await using store = await openFileStoreWith({ lockBytes }, path, { locking: false })
  expect(store.sectors).toBe(1)
})

describe('discard', () => {
  /** Stands in for the addon's `discardRange`: it zeroes the range, in place of punching a hole. */
  const punch = (
    refuse?: (offset: number) => boolean,
  ): { readonly ranges: number[][]; readonly discardRange: DiscardRange } => {
    const ranges: number[][] = []
    return {
      ranges,
      async discardRange(fd, offset, length) {
        ranges.push([offset, length])
        if (refuse?.(offset)) throw new Error('EOPNOTSUPP')
        const { size } = fstatSync(fd)
        if (offset < size) writeSync(fd, new Uint8Array(length), 0, length, offset)
      },
    }
  }

  test('is an array whose discarded sectors are zeroes', async () => {
    const { discardRange } = punch()
    await using store = await openFileStoreWith({ discardRange }, await image(256 * 512))
    expect(store.discardLimits).toEqual({ granularity: 4096, alignment: 0, secure: false })
    await expectModelled({ store, discarded: zeroed, numRuns: 30 })
  })

  test('a file system without holes: no discard is offered', async () => {
    const { discardRange, ranges } = punch(() => true)
    await using store = await openFileStoreWith({ discardRange }, await image(4096))
    expect(store.discard).toBeUndefined()
    expect(store.discardLimits).toBeUndefined()
    // The store tries a discard once, past the image's end, where it can destroy no data.
    expect(ranges).toEqual([[4096, 4096]])
  })

  test('read-only: no discard is offered or tried', async () => {
    const { discardRange, ranges } = punch()
    await using store = await openFileStoreWith({ discardRange }, await image(4096), {
      readOnly: true,
    })
    expect(store.discard).toBeUndefined()
    expect(ranges).toEqual([])
  })

  test('one that fails rejects', async () => {
    const { discardRange } = punch((offset) => offset === 512)
    await using store = await openFileStoreWith({ discardRange }, await image(4096))
    await expect(store.discard?.(1, 1, { secure: false })).rejects.toThrow('EOPNOTSUPP')
  })
})

describe('size', () => {
  test('resize cuts and lengthens the file, and tells who listens', async () => {
    const path = await image(4096)
    await using store = await openFileStoreWith({}, path)
    await store.write?.(0, [new Uint8Array(4096).fill(7)])
    const told: number[] = []
    using _ = store.onResize?.(() => told.push(store.sectors))
    await store.resize(2)
    await store.resize(16)
    expect(told).toEqual([2, 16])
    expect(
      Buffer.compare(
        await readFile(path),
        Buffer.concat([Buffer.alloc(1024, 7), Buffer.alloc(7168)]),
      ),
    ).toBe(0)
    await expect(store.resize(0)).rejects.toThrow(RangeError)
  })

  test('refresh finds what somebody else did to the file', async () => {
    const path = await image(4096)
    await using store = await openFileStoreWith({}, path, { readOnly: true })
    const told: number[] = []
    using _ = store.onResize?.(() => told.push(store.sectors))
    await truncate(path, 8192)
    expect(store.sectors).toBe(8)
    await store.refresh()
    await store.refresh()
    expect(told).toEqual([16])
    await truncate(path, 8000)
    await expect(store.refresh()).rejects.toMatchObject({
      code: 'ERR_XEN_IMAGE',
      message: expect.stringContaining('not a multiple of 512'),
    })
    expect(store.sectors).toBe(16)
  })

  test('read-only, a container is opened as any image', async () => {
    const path = await image(4096)
    await using store = await openFileStoreWith({}, path, { readOnly: true })
    await expect(store.resize(1)).rejects.toMatchObject({ code: 'ERR_XEN_IMAGE' })
    expect((await readFile(path)).length).toBe(4096)
  })
})

test('read-only: there is no write', async () => {
  await using store = await openFileStoreWith({}, await image(512), { readOnly: true })
  expect(store.write).toBeUndefined()
  expect(store.flush).toBeUndefined()
})

test('truncated while being served: reads of the rest work, others fail, the disk goes on', async () => {
  const path = await image(64 * 512)
  await using store = await openFileStoreWith({}, path)
  await using r = await rig({ store })
  await r.plug()
  await using disk = await openVbd(r.guest, { vdev: 'xvda' })
  await truncate(path, 20 * 512)
  // The truncated file ends within the second buffer of this read.
  await expect(disk.read(16, [new Uint8Array(2048), new Uint8Array(2048)])).rejects.toMatchObject({
    code: 'ERR_XEN_DISK',
  })
  const { error } = await r.event(({ kind }) => kind === 'store-failed')
  expect(error).toMatchObject({
    code: 'ERR_XEN_IMAGE',
    message: expect.stringContaining('truncated'),
  })
  await expect(disk.read(40, [new Uint8Array(512)])).rejects.toMatchObject({ code: 'ERR_XEN_DISK' })
  await disk.read(0, [new Uint8Array(20 * 512)])
  await disk.write(63, [new Uint8Array(512).fill(9)])
  expect((await readFile(path)).length).toBe(64 * 512)
})

test('closing waits for what is in flight; later calls reject and touch no other file', async () => {
  // One preadv takes 1024 buffers at most (IOV_MAX), so this read takes several: it is still in
  // flight when the store closes.
  const pieces = 3000
  const path = await image(pieces * 512)
  await writeFile(
    path,
    new Uint8Array(pieces * 512).map((_, i) => (i >> 9) & 255),
  )
  const before = await openDescriptors()
  const store = await openFileStoreWith({}, path)
  const buffers = Array.from({ length: pieces }, () => new Uint8Array(512))
  const order: string[] = []
  const reading = Promise.resolve(store.read(0, buffers)).then(() => order.push('read'))
  await Promise.all([store.close().then(() => order.push('closed')), store.close(), reading])
  expect(order).toEqual(['read', 'closed'])
  expect(buffers.every((buffer, i) => buffer.every((byte) => byte === (i & 255)))).toBe(true)
  await store.close()
  expect(await openDescriptors()).toBe(before)
  // The kernel gives this file the number of the closed descriptor; late calls must not reach it.
  await using other = await openFileStoreWith({}, await image(512))
  for (const late of [
    store.read(0, [new Uint8Array(512)]),
    store.write?.(0, [new Uint8Array(512).fill(7)]),
    store.flush?.(),
  ]) {
    await expect(late).rejects.toMatchObject({
      code: 'ERR_XEN_IMAGE',
      message: expect.stringContaining('closed'),
    })
  }
  expect((await readFile(other.path)).every((byte) => byte === 0)).toBe(true)
})
