/** Images whose data the addon moves: what a guest reads and writes, and what is left of it. */
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
import { counted, withDisk } from './with-disk.ts'

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
  test('a guest reads what it wrote, the image holds it, and the store is not called for any of it', async () => {
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
              // Side by side where they touch different sectors.
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

test('an image that is cut while it is served fails the requests beyond its end, and says so', async () => {
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

test('what the system says of a failure is told by its name', async () => {
  writeFileSync(path, content())
  await using file = await openFileStore(path, { readOnly: true })
  // Says that it can be written, which its descriptor can't.
  const store: BlockStore = Object.assign(file, { write: () => {} })
  await withDisk({ store }, async (disk, events) => {
    await expect(disk.write(0, [new Uint8Array(4096)])).rejects.toThrow()
    expect(events.flatMap(({ error }) => (error === undefined ? [] : [String(error)]))).toEqual([
      'Error: the image: EBADF',
    ])
  })
})

test("a store made of another one's members is asked for what it reads itself", async () => {
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

test('past the page cache, whether the engine can have the memory or not', async () => {
  writeFileSync(path, content())
  await using store = await openFileStore(path, { direct: true })
  await withDisk({ store, dataPath: 'map' }, async (disk) => {
    const bytes = new Uint8Array(SECTORS * 512)
    await disk.read(0, [bytes])
    expect(Buffer.compare(bytes, content())).toBe(0)
  })
})
