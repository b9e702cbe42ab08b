/**
 * Features about a disk's size, sectors and medium as a guest sees them, and about changes of
 * these.
 */
import { deepStrictEqual, match, ok, strictEqual } from 'node:assert'
import { digest, forget, queue, type Rig, type Row } from './rig.ts'

export async function geometry(row: Row, { stack, dom0, guest, withDisk }: Rig): Promise<void> {
  await row('read-only', () =>
    withDisk(
      'xvdd',
      'copy:base',
      async (device) => {
        strictEqual(await guest.run('cat /sys/block/xvdd/ro'), '1')
        const { status, stdout } = await guest.attempt(`dd if=/dev/zero of=${device} bs=4k count=1`)
        ok(status !== 0, 'a write is refused')
        strictEqual(await guest.run(digest(device)), await dom0.run(digest('base.img')))
        return `ro 1; ${stdout.split('\n')[0] ?? ''}`
      },
      'r',
    ),
  )
  await row('sectors of 4096 bytes', () =>
    withDisk('xvde', 'copy:4096', async (device) => {
      deepStrictEqual(
        [
          await queue(guest, 'xvde', 'logical_block_size'),
          await queue(guest, 'xvde', 'physical_block_size'),
          await guest.run('cat /sys/block/xvde/size'),
        ],
        ['4096', '4096', '32768'],
      )
      const { status } = await guest.attempt(`io-bench ${device} random-read 512 1 1`)
      ok(status !== 0, 'half a sector is refused')
      await guest.run(
        `mkfs.ext4 -q ${device} && mount ${device} /mnt && cp /bin/busybox /mnt && sync && umount /mnt`,
      )
      await dom0.run('e2fsck -fn 4096.img && debugfs -R "dump /busybox busybox" 4096.img')
      strictEqual(await dom0.run(digest('busybox')), await guest.run(digest('/bin/busybox')))
      return 'logical_block_size 4096, size 32768 of 512; a file of the guest is whole in the image, e2fsck finds no error'
    }),
  )
  await row('resize', async () => {
    const said: string[] = []
    for (const [size, sectors] of [
      ['24M', 49152],
      ['8M', 16384],
    ] as const) {
      await dom0.run(`xenkit disk resize ${guest.domid} xvda ${size}`)
      await guest.run(
        `until [ $(cat /sys/block/xvda/size) = ${sectors} ]; do usleep 10000; done`,
        20,
      )
      strictEqual(await dom0.run('stat -c %s file.img'), String(sectors * 512))
      await guest.run(
        `dd if=/bin/busybox of=/dev/xvda bs=512 seek=${sectors - 8} count=8 conv=fsync 2>/dev/null`,
      )
      strictEqual(
        await dom0.run('tail -c 4096 file.img | sha256sum'),
        await guest.run('head -c 4096 /bin/busybox | sha256sum'),
      )
      said.push(`size ${sectors}`)
    }
    const { status } = await guest.attempt(
      'dd if=/dev/xvda of=/dev/null bs=512 skip=16384 count=1 iflag=direct 2>/dev/null | grep -q .',
    )
    ok(status !== 0, 'sectors past the new end are refused')
    return `xenkit disk resize 24M, 8M: ${said.join(', ')}; dmesg: ${(await guest.run("dmesg | grep -i 'capacity' | tail -n 1")).replace(/^.*\] /, '')}`
  })
  await row('CD-ROM', async () => {
    await dom0.run('head -c 1048576 /dev/urandom > first.iso; head -c 3M /dev/urandom > second.iso')
    const drive = dom0.spawn(`exec xenkit disk attach ${guest.domid} xvdk --cdrom`)
    if (stack.guests === 'pvh') {
      const error = await dom0.run(
        `until xenstore-read /local/domain/${guest.domid}/error/device/vbd/51872/error 2>/dev/null; do usleep 10000; done`,
      )
      match(error, /^19 /)
      await drive.stop('SIGINT')
      return `Linux has no such drives in guests with hardware virtualisation: "${error}"`
    }
    await guest.disk('xvdk')
    const holds = async (iso?: string): Promise<void> => {
      const sectors =
        iso === undefined ? '0' : await dom0.run(`echo $(($(stat -c %s ${iso}) / 512))`)
      await guest.run(
        `until [ $(cat /sys/block/xvdk/size) = ${sectors} ]; do usleep 10000; done`,
        20,
      )
      if (iso !== undefined) {
        strictEqual(
          await guest.run(`${forget}; ${digest('/dev/xvdk')}`),
          await dom0.run(digest(iso)),
        )
      }
    }
    await holds()
    deepStrictEqual(await guest.run('cat /sys/block/xvdk/removable /sys/block/xvdk/ro'), '1\n1')
    for (const iso of ['first.iso', 'second.iso']) {
      await dom0.run(`xenkit disk insert ${guest.domid} xvdk ${iso}`)
      await holds(iso)
    }
    await dom0.run(`xenkit disk eject ${guest.domid} xvdk`)
    await holds()
    await dom0.run(`xenkit disk insert ${guest.domid} xvdk first.iso`)
    await holds('first.iso')
    await drive.stop('SIGINT')
    return 'removable 1, ro 1; empty, inserted, changed, ejected, inserted: size follows, sha256 agrees'
  })
}
