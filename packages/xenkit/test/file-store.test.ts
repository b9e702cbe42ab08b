/** Discards of images by the addon: discarded ranges read as zeroes and take no space. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openFileStore } from '../src/index.ts'

const MIB = 1024 * 1024
let directory: string
let path: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xenkit-discard-'))
  path = join(directory, 'disk.img')
  await writeFile(path, Buffer.alloc(4 * MIB, 'xenkit'))
})
afterAll(() => rm(directory, { recursive: true }))

test.each([false, true])('a hole is punched into the file, direct %s', async (direct) => {
  const image = join(directory, `${direct}.img`)
  await writeFile(image, Buffer.alloc(4 * MIB, 7), { flush: true })
  const { blocks } = await stat(image)
  await using store = await openFileStore(image, { direct })
  await store.discard?.(2048, 4096, { secure: false })
  await store.flush?.()
  const after = await stat(image)
  expect(after.size).toBe(4 * MIB)
  expect(after.blocks).toBeLessThanOrEqual(blocks - 4096)
  expect(
    Buffer.compare(
      await readFile(image),
      Buffer.concat([Buffer.alloc(MIB, 7), Buffer.alloc(2 * MIB), Buffer.alloc(MIB, 7)]),
    ),
  ).toBe(0)
})

/**
 * Attaches a loop device, and returns its path. Undefined without root, the driver or a free
 * device, as in a container.
 */
function attachLoop(sectorSize: number): string | undefined {
  if (process.getuid?.() !== 0 || !existsSync('/dev/loop-control')) return undefined
  try {
    return execFileSync(
      'losetup',
      ['--find', '--show', '--sector-size', String(sectorSize), path],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    ).trim()
  } catch {
    return undefined
  }
}

test.for([512, 4096])(
  "sectors of a block device are discarded; with O_DIRECT they have the device's size, here %i bytes",
  async (sectorSize, { skip }) => {
    await writeFile(path, Buffer.alloc(4 * MIB, 'xenkit'))
    const device = attachLoop(sectorSize)
    if (device === undefined) return skip('no loop device can be had here')
    try {
      await using cached = await openFileStore(device, { locking: false })
      await using store = await openFileStore(device, { direct: true })
      expect(cached.sectorSize).toBe(512)
      expect(store.sectorSize).toBe(sectorSize)
      expect(store.physicalSectorSize).toBeGreaterThanOrEqual(sectorSize)
      expect(store.sectors).toBe(8192)
      expect(store.discardLimits?.granularity).toBeGreaterThanOrEqual(sectorSize)
      await store.discard?.(2048, 4096, { secure: false })
      await store.write?.(8, [new Uint8Array(4096).fill(9)])
      await store.flush?.()
      const read = new Uint8Array(4 * MIB)
      await store.read(0, [read])
      expect(Buffer.compare(read.subarray(4096, 8192), Buffer.alloc(4096, 9))).toBe(0)
      expect(read.subarray(MIB, 3 * MIB).every((byte) => byte === 0)).toBe(true)
      expect(read.subarray(3 * MIB).every((byte) => byte !== 0)).toBe(true)
      await expect(store.resize(8)).rejects.toThrow(/block device/)
      await expect(store.discard?.(8192, 8, { secure: false })).rejects.toMatchObject({
        code: 'EINVAL',
      })
    } finally {
      execFileSync('losetup', ['--detach', device])
    }
  },
)
