/** How our file-backed disk compares with QEMU's qdisk: the same guest, the same boot, the same file system. */
import { deepStrictEqual } from 'node:assert'
import type { Guest } from '../src/guest/guest.ts'
import type { Lab } from '../src/scenario.ts'
import { median } from '../src/median.ts'

export const title = "IOPS and MB/s of our disk against QEMU's qdisk (at least half of its)"
export const programs = { xenkit: 'packages/xenkit/src/cli/main.ts' }

const ROUNDS = 3

/** Arguments of io-bench, and what a request per second is worth in the unit shown. */
const loads = [
  { name: '4 KiB random read, depth 1, IOPS', args: 'random-read 4096 1', worth: 1 },
  { name: '4 KiB random read, depth 32, IOPS', args: 'random-read 4096 32', worth: 1 },
  { name: '1 MiB read, depth 4, MB/s', args: 'read 1048576 4', worth: 1.048576 },
  { name: '1 MiB write, depth 4, MB/s', args: 'write 1048576 4', worth: 1.048576 },
]

export async function run({ boot, check, note }: Lab): Promise<void> {
  const dom0 = await boot({ clock: 'virtual' })
  await dom0.run('head -c 64M /dev/urandom > ours.img; cp ours.img qdisk.img')
  const server = dom0.spawn('xenkit disk serve --vdev xvda ours.img')
  const guest = await check('a guest boots with both disks', () =>
    dom0.createGuest({
      name: 'guest',
      disks: ['vdev=xvda,access=w,script=/bin/true,target=ours', 'vdev=xvdb,access=w,format=raw,backendtype=qdisk,target=/tmp/qdisk.img'],
    }),
  )
  const [ours, qdisk] = [await guest.disk('xvda'), await guest.disk('xvdb')]
  // JavaScript runs compiled only after some thousand requests.
  await measure(guest, ours, 'random-read 4096 1', 4)
  note(`${`median of ${ROUNDS} rounds`.padEnd(36)}${'xenkit'.padStart(10)}${'qdisk'.padStart(10)}${'ratio'.padStart(8)}`)
  const slow: string[] = []
  for (const { name, args, worth } of loads) {
    const rates = { ours: [] as number[], qdisk: [] as number[] }
    for (let round = 0; round < ROUNDS; round++) {
      // Taken in turns, so that whatever else the host does hits both alike.
      rates.ours.push((await measure(guest, ours, args)) * worth)
      rates.qdisk.push((await measure(guest, qdisk, args)) * worth)
    }
    const [a, b] = [median(rates.ours), median(rates.qdisk)]
    if (a < b / 2) slow.push(`${name}: ${a.toFixed(0)} of ${b.toFixed(0)}`)
    note(`${name.padEnd(36)}${a.toFixed(0).padStart(10)}${b.toFixed(0).padStart(10)}${(a / b).toFixed(2).padStart(8)}`)
  }
  await check('none is slower than half of qdisk', async () => deepStrictEqual(slow, []))
  await guest.destroy()
  await server.stop()
}

/** Requests per second, over some seconds of the machine's own time. */
async function measure(guest: Guest, device: string, args: string, seconds = 1): Promise<number> {
  const result = JSON.parse(await guest.run(`io-bench ${device} ${args} ${seconds}`, 300)) as { requests: number; seconds: number }
  return result.requests / result.seconds
}
