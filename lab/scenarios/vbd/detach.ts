/** Features about detaching disks from a guest that runs and responds. */
import { deepStrictEqual, strictEqual } from 'node:assert'
import { holdings } from '../../src/dom0/holdings.ts'
import { OLDEST, releases } from '../../src/image/debian.ts'
import { line, type Rig, type Row } from './rig.ts'

const CYCLES = 8

export async function detach(row: Row, { dom0, guest, linux }: Rig): Promise<void> {
  const { domid } = guest
  const attach = async (vdev: string, target: string, access?: 'r'): Promise<string> => {
    await dom0.run(`xl block-attach ${domid} '${line(vdev, target, access)}'`)
    return guest.disk(vdev)
  }
  const reaches = (node: string, state: number): Promise<string> =>
    dom0.when(node, `[ "$(xenstore-read ${node})" = ${state} ]`)
  /**
   * Detaches a disk as toolstacks do. `meanwhile` runs after the toolstack asked the backend to
   * close, before the backend has closed.
   */
  const closes = async (vdev: string, devid: number, meanwhile = async () => {}): Promise<void> => {
    const backend = `/local/domain/0/backend/vbd/${domid}/${devid}`
    await dom0.run(`xenstore-write ${backend}/online 0 ${backend}/state 5`)
    await meanwhile()
    await reaches(`${backend}/state`, 6)
    // Both ends have closed, so xl only has to remove the nodes. Since Linux 5.15, blkfront removes
    // the disk then.
    await dom0.run(`xl block-detach ${domid} ${vdev}`)
    await guest.diskGone(vdev)
  }
  const read = (device: string): Promise<string> =>
    guest.run(`dd if=${device} of=/dev/null bs=64k count=4 iflag=direct 2>/dev/null`)

  await row('detach of an idle disk', async () => {
    for (const dataPath of ['copy', 'persistent', 'map']) {
      await read(await attach('xvdl', `${dataPath}:spare`))
      await closes('xvdl', 51888)
    }
    await read('/dev/xvda')
    return 'online=0, state=5 on each data path: /dev/xvdl is removed, and attached again; other disks keep working'
  })
  await row('detach of a disk in use', async () => {
    // Before Linux 5.15, blkfront sets Closing and keeps serving until nobody has the disk open.
    const goesOn = linux === releases[OLDEST].linux
    for (const depth of [16, 128]) {
      const device = await attach('xvdm', 'copy:base', 'r')
      // When more requests are queued than the ring holds, some are sent only while the last ones
      // are answered.
      await guest.run(
        `rm -f /tmp/bench; (io-bench ${device} random-read 4096 ${depth} 60 > /dev/null 2>&1 ||
           echo $? > /tmp/bench) &
         until grep -q '[1-9]' /sys/block/xvdm/inflight; do usleep 1000; done`,
      )
      await closes('xvdm', 51904, async () => {
        if (!goesOn) return
        await reaches(`/local/domain/${domid}/device/vbd/51904/state`, 5)
        await read(device)
        await guest.run('killall io-bench')
      })
      await guest.run('until [ -s /tmp/bench ]; do usleep 10000; done', 20)
    }
    const under = 'with 16 and with 128 reads in flight'
    return goesOn
      ? `${under}: they continue while it is open, then /dev/xvdm is removed, and can be attached again`
      : `${under}: they end, /dev/xvdm is removed, and can be attached again`
  })
  await row('attach and detach, again and again', async () => {
    await dom0.run('truncate -s 4M cycles.img')
    // A separate server process, so that nothing but these cycles changes the resources it holds.
    const server = dom0.spawn('exec single cycles')
    const [, pid = ''] = await server.output(/^pid (\d+)$/m)
    const before = await holdings(dom0, pid)
    for (let i = 0; i < CYCLES; i++) {
      await read(await attach('xvdl', 'cycles'))
      await dom0.run(`xl block-detach ${domid} xvdl`)
      await guest.diskGone('xvdl')
    }
    deepStrictEqual(await holdings(dom0, pid), before)
    strictEqual((await server.stop('SIGTERM')).status, 0)
    return (
      `${CYCLES} times xl block-attach, read, block-detach: ` +
      'event channels, grant mappings, files and nodes as before'
    )
  })
}
