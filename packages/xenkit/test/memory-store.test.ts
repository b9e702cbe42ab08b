/** Memory disks that the addon holds: contents at any size, and when the memory is freed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openMemory } from '@xenkit/xen'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { type BlockStore, openMemoryStore } from '../src/index.ts'
import { counted, withDisk } from './support/with-disk.ts'

const SECTORS = 2_048
const folder = mkdtempSync(join(tmpdir(), 'xenkit-memory-'))
afterAll(() => rmSync(folder, { recursive: true }))

const act = fc.record({
  kind: fc.constantFrom('read', 'read', 'write', 'write', 'discard', 'resize'),
  sector: fc.nat(SECTORS - 1),
  count: fc.integer({ min: 1, max: 600 }),
  fill: fc.nat(255),
})

describe.each(['copy', 'map', 'persistent'] as const)('data path %s', (dataPath) => {
  test('behaves like an array of changing size, without calls of the store', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { minLength: 1, maxLength: 30 }), async (acts) => {
        using memory = await openMemoryStore(SECTORS)
        const { store, calls } = counted(memory)
        let model = Buffer.alloc(SECTORS * 512)
        await withDisk({ store, dataPath }, async (disk) => {
          for (const { kind, sector, count, fill } of acts) {
            const sectors = model.length / 512
            if (kind === 'resize') {
              const next = Buffer.alloc(Math.max(1, sector) * 512)
              model.copy(next)
              model = next
              const heard = new Promise<void>((resolve) => void disk.onResize(resolve))
              store.resize(next.length / 512)
              if (next.length / 512 !== sectors) await heard
              expect(disk.sectors).toBe(next.length / 512)
              continue
            }
            const from = sector % sectors
            const many = Math.min(count, sectors - from)
            const part = model.subarray(from * 512, (from + many) * 512)
            const bytes = new Uint8Array(many * 512).fill(fill)
            if (kind === 'discard') {
              part.fill(0)
              await disk.discard?.(from, many)
            } else if (kind === 'write') {
              part.fill(fill)
              await disk.write(from, [bytes])
            } else {
              await disk.read(from, [bytes])
              expect(Buffer.compare(bytes, part)).toBe(0)
            }
          }
          await disk.flush()
        })
        expect(calls()).toBe(0)
        const all = Buffer.alloc(model.length)
        expect(await store.read(0, [all])).toEqual({ bytesRead: all.length })
        expect(Buffer.compare(all, model)).toBe(0)
      }),
      { numRuns: 15 },
    )
  })
})

test("holds an image's data, and leaves the image unchanged", async () => {
  const content = Buffer.alloc(1_001 * 512)
  content.fill('xenkit', 0, 300_000)
  content.fill(7, 500_000)
  const path = join(folder, 'disk.img')
  writeFileSync(path, content)
  using store = await openMemoryStore(path)
  expect(store.sectors).toBe(1_001)
  const pieces = [Buffer.alloc(10), Buffer.alloc(content.length - 10)] as const
  store.read(0, [...pieces])
  expect(Buffer.compare(Buffer.concat(pieces), content)).toBe(0)
})

test("a store built on another one's members is called for its own reads, in its own thread", async () => {
  using memory = await openMemoryStore(SECTORS)
  const store: BlockStore = {
    ...memory,
    sectors: SECTORS,
    read: (_, into) => into.forEach((bytes) => bytes.fill(9)),
  }
  expect(store.share?.()).toBeUndefined()
  await withDisk({ store }, async (disk) => {
    const bytes = new Uint8Array(8192)
    await disk.read(0, [bytes])
    expect(bytes.every((byte) => byte === 9)).toBe(true)
  })
})

test('the memory is freed when the store and all its shares are closed', async () => {
  const store = await openMemoryStore(SECTORS)
  const open = openMemory()
  const shared = store.share?.()
  const [{ id }, reads] = [shared?.data as { readonly id: number }, Buffer.alloc(4)]
  store.write(8, [Buffer.from('kept')])
  store.close()
  store.close()
  expect(() => store.read(0, [reads])).toThrow('the memory image is closed')
  const other = open?.({ id })
  expect(other?.read(8 * 512, [reads])).toBe(4)
  expect(reads.toString()).toBe('kept')
  other?.close()
  shared?.[Symbol.dispose]()
  expect(() => open?.({ id })).toThrow('no memory image')
})

test('a size without enough memory is refused', async () => {
  await expect(openMemoryStore(2 ** 43)).rejects.toThrow(/a memory image of \d+ bytes: ENOMEM/)
  await expect(openMemoryStore(0)).rejects.toThrow(RangeError)
  using store = await openMemoryStore(8)
  expect(() => store.resize(0)).toThrow(RangeError)
  expect(store.sectors).toBe(8)
})
