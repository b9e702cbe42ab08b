/** Checks of `openVbd` that must pass against any backend. */
import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert'
import type { Hypervisor } from '@xenkit/hypervisor'
import { type OpenVbdOptions, type Disk, openVbd } from 'xenkit'
import { check, soon } from '../tap.ts'

const MIB = 1 << 20

/** A disk that a backend serves: 4 MiB, sectors of 512 bytes, with flush and discard. */
export interface Served {
  readonly name: string
  readonly vdev: string
  /** Reads the disk's content on the backend's side. */
  image(): Promise<Uint8Array>
  resize(sectors: number): Promise<void>
  /** Returns how many read requests the backend has counted since the disk was connected. */
  reads(): Promise<number>
}

const SETUPS: readonly Omit<OpenVbdOptions, 'vdev'>[] = [
  {},
  { abi: 'x86_32' },
  { ringPageOrder: 2, depth: 128 },
  { queues: 4 },
  { queues: 2, ringPageOrder: 1 },
]

export async function checkDisk(hv: Hypervisor, served: Served): Promise<void> {
  const { name, vdev } = served
  const attach = (o: Omit<OpenVbdOptions, 'vdev'> = {}): Promise<Disk> =>
    soon('the attach', openVbd(hv, { vdev, ...o }))

  for (const [seed, setup] of SETUPS.entries()) {
    await check(
      `${name}: written, read back and found in the image, with ${JSON.stringify(setup)}`,
      async () => {
        await using disk = await attach(setup)
        strictEqual(disk.sectors, 4 * 2048)
        const data = noise(3 * MIB, seed)
        // Lengths in sectors; all of these writes are in flight together.
        const sizes = [1, 7, 8, 88, 89, 300, 2048, 2049]
        for (let at = 0; at < data.length;) {
          const writes = sizes.map((size) => {
            const from = at
            at = Math.min(data.length, at + size * 512)
            return disk.write(3 + from / 512, [data.subarray(from, at)])
          })
          await Promise.all(writes)
        }
        await disk.flush()
        const back = new Uint8Array(data.length)
        await disk.read(3, [back.subarray(0, 1000), back.subarray(1000)])
        strictEqual(Buffer.compare(back, data), 0)
        strictEqual(
          Buffer.compare((await served.image()).subarray(3 * 512, 3 * 512 + data.length), data),
          0,
        )
      },
    )
  }

  await check(`${name}: 1 MiB is one request: indirect`, async () => {
    await using disk = await attach()
    const before = await served.reads()
    await disk.read(0, [new Uint8Array(MIB)])
    strictEqual((await served.reads()) - before, 1)
  })

  await check(`${name}: 200 requests at once, each its own data`, async () => {
    await using disk = await attach({ queues: 2 })
    await Promise.all(
      Array.from({ length: 200 }, (_, i) => disk.write(i * 8, [new Uint8Array(4096).fill(i)])),
    )
    await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const into = new Uint8Array(4096)
        await disk.read(i * 8, [into])
        ok(into.every((byte) => byte === i))
      }),
    )
  })

  await check(`${name}: a discard zeroes its range and nothing else`, async () => {
    await using disk = await attach()
    await disk.write(0, [new Uint8Array(64 * 4096).fill(0xee)])
    ok(disk.discard, 'no discard is offered')
    const granule = disk.discardLimits.granularity
    await disk.discard(granule / 512, (4 * granule) / 512)
    const into = new Uint8Array(64 * 4096)
    await disk.read(0, [into])
    deepStrictEqual(
      [into[granule - 1], into[granule], into[5 * granule - 1], into[5 * granule]],
      [0xee, 0, 0, 0xee],
    )
  })

  await check(`${name}: a barrier with data is written`, async () => {
    await using disk = await attach()
    await Promise.all([
      disk.write(0, [new Uint8Array(512).fill(1)]),
      disk.barrier(0, [new Uint8Array(512).fill(2)]),
      disk.write(1, [new Uint8Array(512).fill(3)]),
    ])
    const into = new Uint8Array(1024)
    await disk.read(0, [into])
    deepStrictEqual([into[0], into[512]], [2, 3])
  })

  await check(`${name}: a request past the end fails, and the disk keeps working`, async () => {
    await using disk = await attach()
    await rejects(disk.read(disk.sectors - 1, [new Uint8Array(1024)]), { code: 'ERR_XEN_DISK' })
    await disk.read(disk.sectors - 1, [new Uint8Array(512)])
  })

  await check(
    `${name}: closed with requests in flight and attached again, five times`,
    async () => {
      for (let life = 0; life < 5; life++) {
        const disk = await attach({ queues: 1 + (life % 2) })
        const reading = disk.read(0, [new Uint8Array(2 * MIB)])
        await disk.read(0, [new Uint8Array(512)])
        const ended = reading.then(
          () => {},
          () => {},
        )
        await soon('the close', disk.close())
        await ended
      }
    },
  )

  await check(`${name}: a resize is reported, and the new sectors can be used`, async () => {
    await using disk = await attach()
    const told = new Promise<void>((resolve) => disk.onResize(resolve))
    await served.resize(6 * 2048)
    // blkback checks the size only when a request arrives.
    await disk.read(0, [new Uint8Array(512)])
    await soon('the news of another size', told)
    strictEqual(disk.sectors, 6 * 2048)
    await disk.write(6 * 2048 - 8, [new Uint8Array(4096).fill(5)])
    await disk.flush()
    strictEqual((await served.image())[6 * MIB - 1], 5)
  })
}

/** Pseudorandom words that differ from each other and between seeds. */
function noise(length: number, seed: number): Uint8Array {
  const numbers = Uint32Array.from(
    { length: length / 4 },
    (_, i) => Math.imul(i + 1, 0x9e3779b1) + seed,
  )
  return new Uint8Array(numbers.buffer)
}
