/**
 * Shows every feature of the block backend with Linux's own blkfront. For each one it prints what
 * was done and what the guest reports.
 */
import { deepStrictEqual, strictEqual } from 'node:assert'
import { holdings } from '../../src/dom0/holdings.ts'
import type { Guest } from '../../src/guest/guest.ts'
import { OLDEST, releases } from '../../src/image/debian.ts'
import type { Lab } from '../../src/scenario.ts'
import type { StackName } from '../../src/stack.ts'
import { detach } from './detach.ts'
import { type Feature, features, featuresOfOldest } from './features.ts'
import { geometry } from './geometry.ts'
import { life, queues } from './life-cycle.ts'
import { dataPaths, requests } from './requests.ts'
import { disks, line, type Rig } from './rig.ts'
import { storesOf } from './stores.ts'
import { toolstack } from './toolstack.ts'

export const title =
  'a row for each feature of the block backend, witnessed by the blkfront of a guest'
export const programs = {
  stores: 'lab/dom0/vbd/main.ts',
  single: 'lab/dom0/vbd/single.ts',
  xenkit: 'packages/xenkit/src/cli/main.ts',
}
export const stacks: readonly StackName[] = [
  'debian12-pv',
  'debian12-pvh',
  'debian13-pv',
  'debian13-pvh',
]

export async function run(lab: Lab): Promise<void> {
  const dom0 = await lab.boot()
  await dom0.run(
    'head -c 16M /dev/urandom > file.img; head -c 8388608 /dev/urandom > base.img; head -c 16M /dev/zero > 4096.img; cp 4096.img encrypted.img; cp 4096.img threads.img; qemu-img create -q -f qcow2 disk.qcow2 16M',
  )
  const nbd = dom0.spawn(
    'exec qemu-nbd --persistent --discard=unmap --socket=/tmp/nbd.sock --format=qcow2 disk.qcow2',
  )
  await dom0.run('until [ -S nbd.sock ]; do usleep 10000; done')
  const server = dom0.spawn('exec stores')
  const [, pid = ''] = await server.output(/^pid (\d+)$/m)
  const before = await holdings(dom0, pid)
  const guest = await lab.check('a guest boots with three disks, each on another data path', () =>
    dom0.createGuest({
      name: 'guest',
      disks: Object.entries(disks).map(([vdev, target]) => line(vdev, target)),
      // With persistent grants, blkfront allocates a page for each segment of each request that
      // fits the ring: 32 MiB with these parameters.
      kernelArguments: 'xen_blkfront.max_ring_page_order=2 xen_blkfront.max_indirect_segments=64',
    }),
  )
  for (const vdev of Object.keys(disks)) await guest.disk(vdev)

  let asked = 0
  const rigOf = (guest: Guest, linux: string): Rig => ({
    stack: lab.stack,
    dom0,
    guest,
    linux,
    server,
    async withDisk(vdev, target, work, access) {
      await dom0.run(`xl block-attach ${guest.domid} '${line(vdev, target, access)}'`)
      const said = await work(await guest.disk(vdev))
      await dom0.run(`xl block-detach ${guest.domid} ${vdev}`)
      return said
    },
    async stats() {
      server.signal('SIGUSR2')
      const [, json = ''] = await server.output(new RegExp(`^stats ${++asked} (.*)$`, 'm'))
      return JSON.parse(json)
    },
  })
  const rig = rigOf(guest, releases[lab.stack.debian].linux)
  const shown: string[] = []
  const row = async (what: string, work: () => Promise<string>): Promise<void> => {
    shown.push(what)
    await lab.row(what.padEnd(26), work)
  }
  await requests(row, rig)
  await dataPaths(row, rig)
  await geometry(row, rig)
  await storesOf(row, rig, nbd)
  await toolstack(row, rig)
  await detach(row, rig)
  await life(row, rig, { pid, before })
  await queues(row, rig)
  const { linux } = releases[OLDEST]
  const onOldest = (feature: Feature): string => `${feature}, Linux ${linux}`
  const old = await lab.check(`a guest boots with Linux ${linux}`, () =>
    dom0.createGuest({ name: 'old', kernel: 'oldest', disks: [line('xvda', disks.xvda)] }),
  )
  await detach((feature, work) => row(onOldest(feature), work), rigOf(old, linux))
  await lab.check('every feature has its row', async () =>
    deepStrictEqual(shown, [...features, ...featuresOfOldest.map(onOldest)]),
  )
  await lab.check('the backend ends in good order', async () =>
    strictEqual((await server.stop('SIGTERM')).status, 0),
  )
}
