/**
 * Reads that don't fill their buffers: an error if the store reports it, zeroes if it doesn't,
 * never earlier contents of a buffer.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { type BlockStore, openVbd } from '../../src/index.ts'
import {
  type MemoryStore,
  cachedStore,
  encryptedStore,
  faultyStore,
  memoryStore,
  openFileStoreWith,
  overlayStore,
  snapshotStore,
  sparseStore,
  throttledStore,
} from '@xenkit/stores'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const { OKAY, ERROR } = BLKIF_RSP
const key = randomBytes(64)

/** Fills the pool's buffers by a write, then reads. */
async function readAfterWrite(
  store: BlockStore,
): Promise<{ readonly status: number | undefined; readonly data: Uint8Array }> {
  await using r = await rig({ store })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  front.data.bytes.fill(0xee)
  expect(await front.exchange({ operation: BLKIF_OP.WRITE })).toMatchObject([{ status: OKAY }])
  front.data.bytes.fill(0x11)
  const [answer] = await front.exchange({})
  return { status: answer?.status, data: front.data.bytes.slice(0, 4096) }
}

describe('a store that fills nothing', () => {
  const silent: readonly [string, BlockStore['read']][] = [
    ['and says nothing', () => {}],
    ['and resolves to nothing', async () => {}],
    ['but a sector, and says nothing', (_, into) => void into[0]?.fill(7, 0, 512)],
  ]
  test.each(silent)('%s: the rest is zeroes', async (_, read) => {
    const { status, data } = await readAfterWrite({ sectors: 64, read, write() {} })
    expect(status).toBe(OKAY)
    expect(data.subarray(512).every((byte) => byte === 0)).toBe(true)
  })

  test("and reports it: an error, and the guest's page is unchanged", async () => {
    const { status, data } = await readAfterWrite({
      sectors: 64,
      read: () => ({ bytesRead: 512 }),
      write() {},
    })
    expect(status).toBe(ERROR)
    expect(data.every((byte) => byte === 0x11)).toBe(true)
  })

  test('requests that are retried one by one after a failed call: zeroes as well', async () => {
    let calls = 0
    const read = (_: number, into: Uint8Array[]): void => {
      if (calls++ > 0) return
      for (const buffer of into) buffer.fill(0xee)
      throw new Error('not together')
    }
    await using r = await rig({ store: { sectors: 64, read } })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    front.data.bytes.fill(0x11)
    const answers = await front.exchange({ id: 1n }, { id: 2n, sector: 8n })
    expect(answers.map(({ status }) => status)).toEqual([OKAY, OKAY])
    expect(calls).toBe(3)
    expect(front.data.bytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true)
  })
})

describe('each store says how much it read, less when its base has shrunk', () => {
  const plenty = { calls: { perSecond: 1e9 } }
  const stacks: Record<string, (base: MemoryStore) => BlockStore | Promise<BlockStore>> = {
    memory: (base) => base,
    'overlay, base': (base) => overlayStore(base),
    'overlay, top': async (base) => {
      const store = overlayStore({ ...memoryStore(64), sectors: 64 }, { top: base })
      await store.write?.(0, [new Uint8Array(64 * 512)])
      return store
    },
    cached: (base) => cachedStore(base, { bytes: 65_536, blockSize: 4096 }),
    'cached, past the cache': (base) => cachedStore(base, { bytes: 4096, blockSize: 4096 }),
    encrypted: (base) => encryptedStore(base, { key }),
    throttled: (base) => throttledStore(base, plenty),
    faulty: (base) => faultyStore(base, () => undefined),
    live: (base) => snapshotStore(base),
    snapshot: (base) => snapshotStore(base).take(),
  }
  test.each(Object.entries(stacks))('%s', async (_, stack) => {
    const base = memoryStore(64)
    const store = await stack(base)
    const buffers = (): Uint8Array[] => [new Uint8Array(1000), new Uint8Array(16 * 512 - 1000)]
    expect(await store.read(4, buffers())).toEqual({ bytesRead: 16 * 512 })
    base.resize(9)
    for (const sector of [4, 9, 40]) {
      const result = await Promise.resolve(store.read(sector, buffers())).catch(() => ({
        bytesRead: 0,
      }))
      expect(result).toHaveProperty('bytesRead', expect.any(Number))
      expect(result).not.toEqual({ bytesRead: 16 * 512 })
    }
  })

  test("sparse, a file, and a guest's disk", async () => {
    const buffers = (): Uint8Array[] => [new Uint8Array(4096), new Uint8Array(4096)]
    expect(await sparseStore(64).read(4, buffers())).toEqual({ bytesRead: 8192 })
    const directory = await mkdtemp(join(tmpdir(), 'xenkit-stale-'))
    try {
      const path = join(directory, 'disk.img')
      await writeFile(path, new Uint8Array(64 * 512))
      await using file = await openFileStoreWith({}, path, { readOnly: true })
      expect(await file.read(4, buffers())).toEqual({ bytesRead: 8192 })
      await truncate(path, 9 * 512)
      await expect(file.read(4, buffers())).rejects.toThrow('truncated')
    } finally {
      await rm(directory, { recursive: true })
    }
    await using r = await rig({ store: memoryStore(64) })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    expect(await disk.read(4, buffers())).toEqual({ bytesRead: 8192 })
  })
})

test('a read that waits while the disk shrinks is an error, not stale bytes', async () => {
  const memory = memoryStore(64)
  let go = (): void => {}
  const waits = new Promise<void>((resolve) => (go = resolve))
  let arrived = (): void => {}
  const asked = new Promise<void>((resolve) => (arrived = resolve))
  const slow: BlockStore = {
    get sectors() {
      return memory.sectors
    },
    onResize: memory.onResize,
    write: memory.write,
    async read(sector, into) {
      arrived()
      await waits
      return memory.read(sector, into)
    },
  }
  await using r = await rig({ store: slow })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  front.data.bytes.fill(0xee)
  await front.exchange({ operation: BLKIF_OP.WRITE })
  front.put({ sector: 32n })
  front.send()
  await asked
  memory.resize(8)
  go()
  expect(await front.responses(1)).toMatchObject([{ status: ERROR }])
})
