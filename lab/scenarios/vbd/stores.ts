/** Features about the stores that a disk can be served from. */
import { match, ok, strictEqual } from 'node:assert'
import type { RemoteProcess } from '../../src/dom0/remote-process.ts'
import { digest, forget, type Rig, type Row } from './rig.ts'

export async function storesOf(
  row: Row,
  { dom0, guest, server, stats, withDisk }: Rig,
  nbd: RemoteProcess,
): Promise<void> {
  await row('store: overlay', () =>
    withDisk('xvdf', 'copy:overlay', async (device) => {
      const base = await dom0.run(digest('base.img'))
      strictEqual(await guest.run(digest(device)), base)
      await guest.run(
        `mkfs.ext4 -q ${device} && mount ${device} /mnt && cp /bin/busybox /mnt && umount /mnt`,
      )
      await guest.run(
        `${forget}; mount -o ro ${device} /mnt && cmp /bin/busybox /mnt/busybox; umount /mnt`,
      )
      strictEqual(await dom0.run(digest('base.img')), base)
      return 'reads as its base, then has a file system of the guest; the base is as it was'
    }),
  )
  await row('store: encrypted', () =>
    withDisk('xvdg', 'copy:encrypted', async (device) => {
      const written = await guest.run(
        `dd if=/bin/busybox of=${device} bs=64k count=4 conv=fsync 2>/dev/null; head -c 262144 /bin/busybox | sha256sum`,
      )
      strictEqual(await guest.run(`${forget}; head -c 262144 ${device} | sha256sum`), written)
      // The guest wrote a program to the disk. Unencrypted, the program's ELF magic would show, and
      // data that isn't random can be compressed.
      const packed = Number(await dom0.run('head -c 262144 encrypted.img | gzip -c | wc -c'))
      ok(packed > 256 * 1024, `the image can be compressed to ${packed} bytes`)
      return "256 KiB of a program read back; in the image they can't be compressed"
    }),
  )
  await row('store: throttled', () =>
    withDisk('xvdh', 'copy:throttled', async (device) => {
      await guest.run(`dd if=${device} of=/dev/null bs=1M count=1 iflag=direct 2>/dev/null`)
      const took = await guest.run(
        `read from _ < /proc/uptime; dd if=${device} of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null; read to _ < /proc/uptime; echo $from $to`,
      )
      const [from = 0, to = 0] = took.split(' ').map(Number)
      const seconds = to - from
      ok(seconds > 1.7, `8 MiB at 4 MiB/s took ${seconds.toFixed(1)} s`)
      return `8 MiB at 4 MiB/s, 1 MiB at once: ${seconds.toFixed(1)} s`
    }),
  )
  await row('store: faulty', () =>
    withDisk('xvdi', 'copy:faulty', async (device) => {
      const { status, stdout } = await guest.attempt(
        `dd if=${device} of=/dev/null bs=4k skip=512 count=1 iflag=direct`,
      )
      ok(status !== 0, 'the bad sector can be read')
      await guest.run(
        `dd if=${device} of=/dev/null bs=4k skip=513 count=64 iflag=direct 2>/dev/null`,
      )
      const said = (await guest.run("dmesg | grep 'xvdi, sector' | tail -n 1")).replace(
        /^.*\] /,
        '',
      )
      match(said, /sector 4096/)
      ok(Number((await stats())['xvdi']?.['errors']) > 0)
      return `${stdout.split('\n')[0] ?? ''}; dmesg: ${said}`
    }),
  )
  await row('store: NBD', () =>
    withDisk('xvdj', 'copy:nbd', async (device) => {
      await guest.run(`mkfs.ext4 -q ${device} && mount ${device} /mnt && cp -a /bin /mnt && sync`)
      // The killed server loses writes that it answered but that were not flushed, such as ext4's
      // own checkpoints. The store repeats those writes.
      await nbd.stop('SIGKILL')
      await dom0.run('rm -f nbd.sock')
      const copying = guest.run(
        `${forget}; cmp /bin/busybox /mnt/bin/busybox; cp /bin/busybox /mnt/again && sync && umount /mnt`,
      )
      await server.output(/nbd: (?!connected)/)
      const again = dom0.spawn(
        'exec qemu-nbd --persistent --discard=unmap --socket=/tmp/nbd.sock --format=qcow2 disk.qcow2',
      )
      await copying
      await again.stop('SIGTERM')
      await dom0.run(
        'qemu-img check -q -r leaks disk.qcow2 && qemu-img convert -O raw disk.qcow2 disk.raw && e2fsck -fn disk.raw',
      )
      dom0.spawn(
        'exec qemu-nbd --persistent --discard=unmap --socket=/tmp/nbd.sock --format=qcow2 disk.qcow2',
      )
      strictEqual(await guest.run("dmesg | grep -c 'xvdj, sector' || true"), '0')
      return 'qcow2 by qemu-nbd, killed and started again while the guest works: no error in dmesg, e2fsck finds no error'
    }),
  )
}
