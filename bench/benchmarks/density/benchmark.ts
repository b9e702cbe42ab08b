/** Memory that idle disks take. docs/bench/density.md explains the benchmark. */
import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Figure } from '@xenkit/lab'
import type { Bench } from '../../src/benchmark.ts'
import { residentBytes } from '../../src/process-usage.ts'
import { connectDisk, Rig } from '../../rig/rig.ts'

export const title = 'resident bytes of an idle disk, many in one process'

const COUNTS = [1, 100, 1000]
/** Number of disks that connect at the same time. */
const ABREAST = 25
/** Size of an image. It is sparse, so that a thousand of them take no room. */
const IMAGE_BYTES = 2 ** 20
const MEGABYTE = 1e6

export async function run(bench: Bench): Promise<void> {
  const rig = await Rig.build(bench)
  // An image serves one disk, which locks it.
  const createImage = async (number: number): Promise<string> => {
    const path = join(bench.directory, `${number}.img`)
    await writeFile(path, '')
    await truncate(path, IMAGE_BYTES)
    return path
  }
  await bench.measure('idle disks', async () => {
    await using guest = await rig.guest('front', Math.max(...COUNTS), 1)
    await using ours = await rig.ours(guest, 'serve', 'persistent')
    const resident = async (): Promise<number> => {
      await ours.program.ask('begin') // collects garbage before the measurement
      return residentBytes(ours.program.pid)
    }
    const empty = await resident()
    const figures: Figure[] = []
    let connected = 0
    for (const count of COUNTS) {
      while (connected < count) {
        const some = Array.from(
          { length: Math.min(ABREAST, count - connected) },
          (_, i) => connected + i,
        )
        await Promise.all(
          some.map(async (number) =>
            connectDisk(ours.xs, { number, rings: [number], image: await createImage(number) }),
          ),
        )
        connected += some.length
      }
      const megabytes = ((await resident()) - empty) / count / MEGABYTE
      figures.push({
        name: `megabytes of a disk, ${count} in a process`,
        values: [megabytes],
        detail: `${(empty / MEGABYTE).toFixed(0)} megabytes without any`,
        ...(count === 1 ? {} : { gate: { atMost: 1.5 } }),
      })
    }
    return figures
  })
}
