/** Features about the ways to attach a disk to a guest and to detach it. */
import { match, ok, strictEqual } from 'node:assert'
import { digest, line, type Rig, type Row } from './rig.ts'

export async function toolstack(row: Row, { dom0, guest }: Rig): Promise<void> {
  const blockList = async (): Promise<string[]> =>
    (await dom0.run(`xl block-list ${guest.domid}`))
      .split('\n')
      .slice(1)
      .map((row) => row.trim().split(/\s+/)[0] ?? '')
  await row('xl block-attach, -detach', async () => {
    await dom0.run(`xl block-attach ${guest.domid} '${line('xvdl', 'copy:spare')}'`)
    await guest.run(
      `dd if=/bin/busybox of=${await guest.disk('xvdl')} bs=64k count=4 conv=fsync 2>/dev/null`,
    )
    ok((await blockList()).includes('51888'))
    await dom0.run(`xl block-detach ${guest.domid} xvdl`)
    await guest.diskGone('xvdl')
    strictEqual(
      await dom0.run(
        `xenstore-ls -f /local/domain/0/backend/vbd/${guest.domid} | grep -c /51888 || true`,
      ),
      '0',
    )
    return 'script=/bin/true: /dev/xvdl comes and goes, no node is left'
  })
  await row('xenkit disk list, detach', async () => {
    const attached = dom0.spawn(
      `exec xenkit disk attach ${guest.domid} xvdm /tmp/base.img --read-only`,
    )
    await guest.disk('xvdm')
    const listed = await dom0.run(`xenkit disk list | grep xvdm`)
    match(listed, /Connected +Connected +16384 +r +yes +\/tmp\/base.img/)
    ok((await blockList()).includes('51904'), 'xl block-list has it')
    await dom0.run(`xenkit disk detach ${guest.domid} xvdm`)
    strictEqual((await attached.ended).status, 0)
    await guest.diskGone('xvdm')
    return `"${listed.trim().replace(/ +/g, ' ')}", also in xl block-list; detached`
  })
  await row("a block device, libxl's script", async () => {
    await dom0.run(
      'modprobe loop; [ -e /dev/loop0 ] || mknod /dev/loop0 b 7 0; losetup /dev/loop0 second.iso',
    )
    const device = dom0.spawn('exec xenkit disk serve --vdev xvdo')
    await device.output(/waiting for a disk/)
    await dom0.run(`xl block-attach ${guest.domid} 'vdev=xvdo,access=w,target=/dev/loop0'`)
    strictEqual(
      await guest.run(digest(await guest.disk('xvdo'))),
      await dom0.run(digest('second.iso')),
    )
    await dom0.run(`xl block-detach ${guest.domid} xvdo`)
    await device.output(/removed/)
    await device.stop('SIGINT')
    await dom0.run('losetup -d /dev/loop0')
    return 'target=/dev/loop0 alone; hotplug-status by xen\'s "block"; sha256 agrees'
  })
  await row('forced detach', async () => {
    await dom0.run(`xl block-attach ${guest.domid} '${line('xvdl', 'copy:spare')}'`)
    await guest.disk('xvdl')
    // The guest's search for partitions may still have a read in flight. A forced detach leaves
    // such a read unanswered, and then the guest waits for it for ever. The read below ends after
    // that search.
    await guest.run('dd if=/dev/xvdl of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null')
    // The guest is paused, so it can't respond to the detach.
    await dom0.run(
      `xl pause ${guest.domid}; xenkit disk detach ${guest.domid} xvdl --force; xl unpause ${guest.domid}`,
    )
    await guest.diskGone('xvdl')
    await guest.run('dd if=/dev/xvda of=/dev/null bs=1M count=1 iflag=direct 2>/dev/null')
    return 'from a paused guest; its other disks keep working'
  })
}
