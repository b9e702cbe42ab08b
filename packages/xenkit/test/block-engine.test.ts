/** Images whose data the addon transfers: contents, errors and leaks. */
import {
  ftruncateSync,
  mkdtempSync,
  openSync,
  closeSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BlockStore, openFileStore } from '../src/index.ts'
import { counted, withDisk } from './support/with-disk.ts'

const SECTORS = 2_048

let folder: string
let path: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-engine-'))
  path = join(folder, 'disk.img')
})
afterAll(() => rmSync(folder, { recursive: true }))

const content = (): Uint8Array =>
  Uint8Array.from({ length: SECTORS * 512 }, (_, i) => (i * 7 + (i >> 9)) & 0xff)

const range = fc
  .tuple(fc.nat(SECTORS - 1), fc.integer({ min: 1, max: 600 }))
  .map(([sector, count]) => ({ sector, count: Math.min(count, SECTORS - sector) }))
const act = fc.record({ range, write: fc.boolean(), fill: fc.nat(255) })

describe.each(['copy', 'map', 'persistent'] as const)('data path %s', (dataPath) => {
  test('a guest reads its own writes from the image, without calls of the store', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(act, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 8 }),
        async (rounds) => {
          const model = content()
          writeFileSync(path, model)
          await using file = await openFileStore(path)
          const { store, calls } = counted(file)
          await withDisk({ store, dataPath }, async (disk) => {
            for (const round of rounds) {
              // Drop requests that overlap an earlier one: concurrent requests touch different
              // sectors.
              const taken: boolean[] = []
              const apart = round.filter(({ range: { sector, count } }) => {
                const own = Array.from({ length: count }, (_, i) => sector + i)
                const isFree = own.every((at) => !taken[at])
                if (isFree) for (const at of own) taken[at] = true
                return isFree
              })
              await Promise.all(
                apart.map(async ({ range: { sector, count }, write, fill }) => {
                  const bytes = new Uint8Array(count * 512)
                  if (write) {
                    model.fill(fill, sector * 512, (sector + count) * 512)
                    await disk.write(sector, [bytes.fill(fill)])
                  } else {
                    await disk.read(sector, [bytes])
                    expect(
                      Buffer.compare(bytes, model.subarray(sector * 512, (sector + count) * 512)),
                    ).toBe(0)
                  }
                }),
              )
            }
            await disk.flush()
          })
          expect(Buffer.compare(readFileSync(path), model)).toBe(0)
          expect(calls()).toBe(0)
        },
      ),
      { numRuns: 12 },
    )
  })
})

test('requests beyond the end of an image that was truncated while served fail and are reported', async () => {
  writeFileSync(path, content())
  await using store = await openFileStore(path)
  await withDisk({ store }, async (disk, events) => {
    const fd = openSync(path, 'r+')
    ftruncateSync(fd, 1024 * 512)
    closeSync(fd)
    await disk.read(1016, [new Uint8Array(4096)])
    await expect(disk.read(1020, [new Uint8Array(4096)])).rejects.toThrow()
    expect(events.flatMap(({ error }) => (error === undefined ? [] : [String(error)]))).toEqual([
      'RangeError: the store moved 2048 of 4096 bytes',
    ])
  })
})

test('a failed system call is reported by its errno name', async () => {
  writeFileSync(path, content())
  await using file = await openFileStore(path, { readOnly: true })
  // A store that claims to be writable, although its file was opened read-only.
  const store: BlockStore = Object.assign(file, { write: () => {} })
  await withDisk({ store }, async (disk, events) => {
    await expect(disk.write(0, [new Uint8Array(4096)])).rejects.toThrow()
    expect(events.flatMap(({ error }) => (error === undefined ? [] : [String(error)]))).toEqual([
      'Error: the image: EBADF',
    ])
  })
})

test("a store built on another one's members is called for its own reads", async () => {
  writeFileSync(path, content())
  await using file = await openFileStore(path)
  const store: BlockStore = {
    ...file,
    sectors: SECTORS,
    read: (_, into) => into.forEach((bytes) => bytes.fill(9)),
  }
  await withDisk({ store }, async (disk) => {
    const bytes = new Uint8Array(8192)
    await disk.read(0, [bytes])
    expect(bytes.every((byte) => byte === 9)).toBe(true)
  })
})

test('O_DIRECT works, whether or not the engine can use the memory', async () => {
  writeFileSync(path, content())
  await using store = await openFileStore(path, { direct: true })
  await withDisk({ store, dataPath: 'map' }, async (disk) => {
    const bytes = new Uint8Array(SECTORS * 512)
    await disk.read(0, [bytes])
    expect(Buffer.compare(bytes, content())).toBe(0)
  })
})
