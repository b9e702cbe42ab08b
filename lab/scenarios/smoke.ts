/**
 * The basic test: an unmodified guest uses disks whose whole path from blkfront to the image file
 * is TypeScript.
 */
import { ok, strictEqual } from 'node:assert'
import { releases } from '../src/image/debian.ts'
import type { Lab } from '../src/scenario.ts'
import type { StackName } from '../src/stack.ts'

export const title = 'an unmodified Linux guest uses disks served from TypeScript'
export const programs = {
  'file-disk': 'examples/file-disk.ts',
  xenkit: 'packages/xenkit/src/cli/main.ts',
}
export const stacks: readonly StackName[] = ['debian12-pv', 'debian13-pvh']

/**
 * A disk for our backend. With a script of its own, libxl leaves the disk to whichever backend
 * takes it in xenstore. The script has nothing to do.
 */
const ours = (vdev: string): string => `vdev=${vdev},access=w,script=/bin/true,target=ours`

/** Returns a shell command that prints a line which is equal for equal content. */
const digest = (file: string): string => `sha256sum < ${file}`
const digestOfTree = (root: string): string =>
  `cd ${root} && find lib bin usr -type f -exec sha256sum {} + | sort | sha256sum`

export async function run({ boot, check, stack }: Lab): Promise<void> {
  const dom0 = await boot()
  await check('the kernel has no block backend of its own', async () => {
    strictEqual(await dom0.run('lsmod | grep -c blkback || true'), '0')
  })
  await check('xenkit doctor finds nothing missing', () => dom0.run('xenkit doctor'))

  // Sizes that aren't multiples of a page, because off-by-one errors show in the last sectors of a
  // disk.
  await dom0.run(
    'head -c $((32 * 1024 * 1024 + 512)) /dev/urandom > first.img; head -c $((4 * 1024 * 1024 + 1536)) /dev/urandom > second.img',
  )
  const server = dom0.spawn('file-disk first.img')
  const guest = await check('a guest boots with the disk of examples/file-disk.ts', () =>
    dom0.createGuest({ name: 'guest', disks: [ours('xvda')] }),
  )
  await check(
    `it is a ${stack.guests} guest, Xen and both kernels are those of Debian ${stack.debian}`,
    async () => {
      strictEqual(
        await guest.run('cat /sys/hypervisor/type /sys/hypervisor/guest_type | tr A-Z a-z'),
        `xen\n${stack.guests}`,
      )
      const { xen, linux } = releases[stack.debian]
      strictEqual(
        await dom0.run(
          'echo $(cat /sys/hypervisor/version/major).$(cat /sys/hypervisor/version/minor)',
        ),
        xen,
      )
      for (const version of [await dom0.run('uname -r'), await guest.run('uname -r')]) {
        ok(version.startsWith(`${linux}.`), version)
      }
    },
  )
  const xvda = await check('the guest has the disk', () => guest.disk('xvda'))

  await check('the guest reads all of it, sha256 agrees', async () => {
    strictEqual(await guest.run(digest(xvda)), await dom0.run(digest('first.img')))
  })

  await check('the guest writes, the image holds what was written', async () => {
    const written = await guest.run(
      `head -c $((48 * 65536)) /dev/urandom > /tmp/data; dd if=/tmp/data of=${xvda} bs=64k seek=100 conv=fsync 2>/dev/null; ${digest('/tmp/data')}`,
    )
    strictEqual(
      await dom0.run(`dd if=first.img bs=64k skip=100 count=48 2>/dev/null | sha256sum`),
      written,
    )
  })

  await check('the guest makes a file system and copies files', () =>
    guest.run(
      `mkfs.ext4 -q ${xvda} && mount ${xvda} /mnt && cp -a /lib /bin /usr /mnt && sync && umount /mnt`,
    ),
  )
  await check('the files are whole when mounted again', () =>
    guest.run(
      `echo 3 > /proc/sys/vm/drop_caches; mount -o ro ${xvda} /mnt && for each in bin/busybox usr/bin/io-bench; do cmp /$each /mnt/$each || exit 1; done; umount /mnt`,
    ),
  )
  await check('the image is a clean file system: e2fsck', () => dom0.run('e2fsck -fn first.img'))
  await check('the files in the image are those of the guest, sha256 agrees', async () => {
    await dom0.run('mkdir files && debugfs -R "rdump / files" first.img')
    strictEqual(await dom0.run(digestOfTree('files')), await guest.run(digestOfTree('/')))
  })
  await check('the guest reads all of the image again, sha256 agrees', async () => {
    await guest.run('echo 3 > /proc/sys/vm/drop_caches')
    strictEqual(await guest.run(digest(xvda)), await dom0.run(digest('first.img')))
  })

  const attached = dom0.spawn(`xenkit disk attach ${guest.domid} xvdb second.img`)
  const xvdb = await check(
    'xenkit disk attach plugs a second disk into the running guest',
    async () => {
      await attached.output(new RegExp(`xvdb of domain ${guest.domid}: connected`))
      return guest.disk('xvdb')
    },
  )
  await check('the guest reads all of the second disk, sha256 agrees', async () => {
    strictEqual(await guest.run(digest(xvdb)), await dom0.run(digest('second.img')))
  })

  for (const [mistake, args] of [
    ['an image that does not exist', `${guest.domid} xvdc nowhere.img`],
    ['a domain that does not exist', '999 xvda second.img'],
    ['a disk that the guest has already', `${guest.domid} xvda second.img`],
  ] as const) {
    await check(`${mistake} gives an error of one line`, async () => {
      const { status, stderr } = await dom0.attempt(`xenkit disk attach ${args}`)
      strictEqual(status, 1)
      strictEqual(stderr.trim().split('\n').length, 1, stderr)
    })
  }

  await check('on Ctrl-C the second disk is unplugged, and the first keeps working', async () => {
    strictEqual((await attached.stop('SIGINT')).status, 0)
    await guest.run(
      `[ ! -e ${xvdb} ] && dd if=${xvda} of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null`,
    )
  })
  await check('its disk is closed when the guest is destroyed', async () => {
    await guest.destroy()
    await server.stop()
    strictEqual(await dom0.run('xenstore-ls -f /local/domain/0/backend | grep /vbd/ || true'), '')
  })
}
